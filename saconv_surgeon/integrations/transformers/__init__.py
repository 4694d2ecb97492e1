"""Hugging Face models keep their converted layers: importing this module is enough.

::

    import saconv_surgeon.integrations.transformers  # before from_pretrained

    conversion = surgeon.convert(model, {"pixel_values": images})
    conversion.model.save_pretrained("converted")  # config.json names the converted layers
    model = AutoModelForImageClassification.from_pretrained("converted")  # to the bit

Without the import, ``from_pretrained`` warns that it does not know the "quantization type saconv_surgeon", transformers' word for
models whose modules are replaced before their weights are loaded. Nothing is quantised. :func:`save_pretrained` also writes the
proof and the price into the model card.
"""

from saconv_surgeon.integrations.hugging_face_record import METHOD, recorded_layers
from saconv_surgeon.integrations.transformers.loading import SurgeryConfig, SurgeryLoader, register
from saconv_surgeon.integrations.transformers.model_card import save_pretrained

__all__ = ["METHOD", "SurgeryConfig", "SurgeryLoader", "recorded_layers", "save_pretrained"]

register()
