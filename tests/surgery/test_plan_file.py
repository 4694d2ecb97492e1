"""Plans in files."""

from saconv_surgeon.records import Plan, from_dict, to_dict
from tests import nets
from tests.surgery.plans import plan_of


def test_plan_survives_json():
    plan = plan_of(nets.chain())
    assert from_dict(Plan, to_dict(plan)) == plan
