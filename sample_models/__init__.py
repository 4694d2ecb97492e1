"""Small real models: awkward, tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo."""
