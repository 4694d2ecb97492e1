"""Plans of small models."""

import saconv_surgeon as surgeon
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.inspect import make_plan
from tests import nets


def decisions(model, x=nets.X, **options):
    return {site.path: site for site in surgeon.inspect(model, x, **options)}


def plan_of(model, **selection):
    return make_plan(model, nets.X, selection=Selection(**selection))
