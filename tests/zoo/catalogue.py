"""The real models that the tool is tried on: names that libraries know them by, with the family each belongs to.

A size behind ``@`` replaces the library's own where that would take minutes on two cores; the architecture is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

TIMM = """
beit: beit_base_patch16_224
byoanet: eca_botnext26ts_256 eca_halonext26ts lambda_resnet26t
byobnet: mobileone_s0 repvgg_a0 gernet_s resnext26ts
cait: cait_xxs24_224
coat: coat_tiny coat_lite_tiny coat_lite_mini
convit: convit_tiny
convmixer: convmixer_768_32@1x3x112x112
convnext: convnext_atto convnextv2_atto convnext_atto_ols
cpubone: cpubone_nano
crossvit: crossvit_9_dagger_240
csatv2: csatv2@1x3x256x256
cspnet: cs3darknet_focus_s darknet17 cspresnet50@1x3x128x128
cspnext: cspnext_tiny
davit: davit_tiny
deit: deit_tiny_distilled_patch16_224
densenet: densenet121 densenetblur121d
dla: dla46x_c dla34
dpn: dpn48b
edgenext: edgenext_xx_small
efficientformer: efficientformer_l1
efficientformer_v2: efficientformerv2_s0
efficientnet: efficientnet_b0 efficientnet_lite0 mixnet_s mobilenetv2_050 mnasnet_small tinynet_e
efficientnet: tf_efficientnet_b0 tf_efficientnetv2_b0 spnasnet_100
efficientvim: efficientvim_m1
efficientvit_mit: efficientvit_b0
efficientvit_msra: efficientvit_m0
fasternet: fasternet_t0
fastvit: fastvit_t8
focalnet: focalnet_tiny_srf
gcvit: gcvit_xxtiny
ghostnet: ghostnet_050 ghostnetv2_100 ghostnetv3_050
hardcorenas: hardcorenas_a
hgnet: hgnetv2_b0 hgnet_tiny
hiera: hiera_tiny_224
hieradet_sam2: hieradet_small
hrnet: hrnet_w18_small
iformer: iformer_t
inception_next: inception_next_atto
inception_resnet_v2: inception_resnet_v2@1x3x160x160
inception_v3: inception_v3@1x3x160x160
inception_v4: inception_v4@1x3x160x160
lcnetv2: lcnetv2_small
levit: levit_128s levit_conv_128s
lowformer: lowformer_b0
mambaout: mambaout_femto
maxxvit: coatnet_pico_rw_224 maxvit_pico_rw_256
metaformer: poolformer_s12 caformer_s18
mlp_mixer: gmixer_12_224
mobilenetv3: mobilenetv3_small_050 lcnet_035 fbnetv3_b mobilenetv4_conv_small
mobilenetv5: mobilenetv5_base
mobilevit: mobilevit_xxs mobilevitv2_050
mvitv2: mvitv2_tiny
nasnet: nasnetalarge@1x3x128x128
nest: nest_tiny
nextvit: nextvit_small
nfnet: nf_ecaresnet26 eca_nfnet_l0 dm_nfnet_f0@1x3x96x96 nf_regnet_b0
pit: pit_ti_224
pnasnet: pnasnet5large@1x3x128x128
pvt_v2: pvt_v2_b0
rdnet: rdnet_tiny
regnet: regnetx_002 regnety_002 regnetz_b16
repghost: repghostnet_050
repvit: repvit_m1
res2net: res2net50_14w_8s res2next50
resnest: resnest14d
resnet: resnet10t resnet18 resnet26d seresnext26d_32x4d ecaresnet26t resnetrs50 resnetblur50@1x3x96x96
resnet: wide_resnet50_2@1x3x96x96
resnetv2: resnetv2_18 resnetv2_50x1_bit@1x3x96x96
rexnet: rexnet_100
selecsls: selecsls42
senet: legacy_seresnet18 legacy_senet154@1x3x96x96
sequencer: sequencer2d_s
shvit: shvit_s1
sknet: skresnet18
starnet: starnet_s050
swiftformer: swiftformer_xs
swin_transformer: swin_tiny_patch4_window7_224
swin_transformer_v2: swinv2_tiny_window8_256
swin_transformer_v2_cr: swinv2_cr_tiny_ns_224
tiny_vit: tiny_vit_5m_224
tnt: tnt_s_patch16_224
tresnet: tresnet_m@1x3x96x96 tresnet_l@1x3x96x96
twins: twins_svt_small twins_pcpvt_small
vgg: vgg11@1x3x96x96 vgg11_bn@1x3x96x96
visformer: visformer_tiny
vision_transformer_hybrid: vit_tiny_r_s16_p8_224 vit_small_r26_s32_224
vision_transformer_relpos: vit_relpos_small_patch16_224
vitamin: vitamin_small_224
volo: volo_d1_224
vovnet: ese_vovnet19b_slim vovnet39a@1x3x128x128
xception: legacy_xception@1x3x160x160
xception_aligned: xception41@1x3x160x160
xcit: xcit_nano_12_p16_224
"""

TORCHVISION = """
alexnet: alexnet
convnext: convnext_tiny
densenet: densenet121 densenet161@1x3x96x96 densenet169@1x3x96x96 densenet201@1x3x96x96
efficientnet: efficientnet_b0 efficientnet_b1 efficientnet_b4@1x3x128x128 efficientnet_v2_s@1x3x128x128
googlenet: googlenet
inception: inception_v3@1x3x160x160
maxvit: maxvit_t
mnasnet: mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3
mobilenetv2: mobilenet_v2
mobilenetv3: mobilenet_v3_large mobilenet_v3_small
regnet: regnet_x_400mf regnet_x_800mf regnet_x_1_6gf@1x3x96x96 regnet_y_400mf regnet_y_800mf
regnet: regnet_y_1_6gf@1x3x96x96 regnet_y_3_2gf@1x3x96x96
resnet: resnet18 resnet34 resnet50 resnet101@1x3x96x96 resnext50_32x4d@1x3x96x96 wide_resnet50_2@1x3x96x96
shufflenetv2: shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0
squeezenet: squeezenet1_0 squeezenet1_1
swin_transformer: swin_t swin_v2_t
vgg: vgg11@1x3x96x96 vgg13@1x3x96x96 vgg16@1x3x96x96 vgg19_bn@1x3x96x96
vision_transformer: vit_b_32
quantization: quantized_resnet18 quantized_mobilenet_v2 quantized_shufflenet_v2_x0_5 quantized_googlenet
deeplabv3: deeplabv3_mobilenet_v3_large@1x3x160x160 deeplabv3_resnet50@1x3x128x128
fcn: fcn_resnet50@1x3x128x128
lraspp: lraspp_mobilenet_v3_large@1x3x224x224
faster_rcnn: fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_resnet50_fpn(min_size=192,max_size=224)
faster_rcnn: fasterrcnn_resnet50_fpn_v2(min_size=192,max_size=224)
mask_rcnn: maskrcnn_resnet50_fpn(min_size=192,max_size=224)
mask_rcnn: maskrcnn_resnet50_fpn_v2(min_size=192,max_size=224)
keypoint_rcnn: keypointrcnn_resnet50_fpn(min_size=192,max_size=224)
fcos: fcos_resnet50_fpn(min_size=192,max_size=224)
retinanet: retinanet_resnet50_fpn(min_size=192,max_size=224)
retinanet: retinanet_resnet50_fpn_v2(min_size=192,max_size=224)
ssd: ssd300_vgg16
ssdlite: ssdlite320_mobilenet_v3_large
raft: raft_small raft_large
video_resnet: r3d_18@1x3x8x64x64 mc3_18@1x3x8x64x64 r2plus1d_18@1x3x8x64x64
s3d: s3d@1x3x16x224x224
mvit: mvit_v2_s
swin3d: swin3d_t@1x3x8x64x64
"""

ULTRALYTICS = """
yolov3: yolov3-tiny.yaml@1x3x320x320 yolov3.yaml@1x3x160x160 yolov3-spp.yaml@1x3x160x160
yolov5: yolov5n.yaml@1x3x320x320 yolov5n-p6.yaml@1x3x256x256
yolov6: yolov6n.yaml@1x3x320x320
yolov8: yolov8n.yaml yolov8n-seg.yaml@1x3x320x320 yolov8n-pose.yaml@1x3x320x320 yolov8n-obb.yaml@1x3x320x320
yolov8: yolov8n-cls.yaml yolov8n-p2.yaml@1x3x256x256 yolov8n-ghost.yaml@1x3x256x256 yolov8n-cls-resnet50.yaml
yolov9: yolov9t.yaml@1x3x320x320 yolov9c-seg.yaml@1x3x160x160 yolov9e.yaml@1x3x160x160
yolov10: yolov10n.yaml@1x3x320x320 yolov10b.yaml@1x3x160x160
yolo11: yolo11n.yaml yolo11n-seg.yaml@1x3x320x320 yolo11n-pose.yaml@1x3x320x320 yolo11n-obb.yaml@1x3x320x320
yolo11: yolo11n-cls.yaml
yolo12: yolo12n.yaml@1x3x320x320 yolo12n-seg.yaml@1x3x256x256
yolo26: yolo26n.yaml yolo26n-seg.yaml@1x3x320x320 yolo26n-pose.yaml@1x3x320x320 yolo26n-obb.yaml@1x3x320x320
yolo26: yolo26n-cls.yaml yolo26n-depth.yaml@1x3x256x256 yolo26n-sem.yaml@1x3x256x256
rtdetr: rtdetr-l.yaml@1x3x256x256 rtdetr-resnet50.yaml@1x3x256x256 yolov8n-rtdetr.yaml@1x3x256x256
yoloworld: yolov8n-world.yaml@1x3x320x320 yolov8n-worldv2.yaml@1x3x320x320
yoloe: yoloe-11n-seg.yaml@1x3x320x320 yoloe-v8n.yaml@1x3x320x320
"""

TRANSFORMERS = """
beit: beit
bit: bit
convnext: convnext
convnextv2: convnextv2
cvt: cvt
data2vec: data2vec-vision
deit: deit
dinov2: dinov2
dinov3_convnext: dinov3_convnext
efficientnet: efficientnet(width_coefficient=1.0,depth_coefficient=1.0,image_size=224,hidden_dim=1280)
focalnet: focalnet
hgnet_v2: hgnet_v2
hiera: hiera
levit: levit
mobilenet_v1: mobilenet_v1
mobilenet_v2: mobilenet_v2 MobileNetV2ForSemanticSegmentation
mobilevit: mobilevit MobileViTForSemanticSegmentation
mobilevitv2: mobilevitv2
poolformer: poolformer
pp_lcnet: pp_lcnet
pvt: pvt
pvt_v2: pvt_v2
regnet: regnet
resnet: resnet ResNetBackbone ResNetModel
segformer: segformer SegformerForSemanticSegmentation
swiftformer: swiftformer
swin: swin
swinv2: swinv2(image_size=256,window_size=8)
swin2sr: swin2sr
textnet: textnet
timesformer: timesformer
videomae: videomae
vit: vit
yolos: yolos(image_size=[128,160])
dpt: dpt DPTForSemanticSegmentation
glpn: glpn
depth_anything: depth_anything
detr: detr(use_pretrained_backbone=False)
conditional_detr: conditional_detr
deformable_detr: deformable_detr
rt_detr: rt_detr
rt_detr_v2: rt_detr_v2
d_fine: d_fine
dab_detr: dab-detr
deimv2: deimv2
table_transformer: table-transformer
pp_doclayout: pp_doclayout_v3
pp_ocr: pp_ocrv5_mobile_det pp_ocrv5_server_rec pp_ocrv6_tiny_rec
prompt_depth_anything: prompt_depth_anything
timm_wrapper: timm_wrapper
uvdoc: uvdoc_backbone
mgp_str: mgp-str
efficientloftr: efficientloftr
clip: clip
dinov3_vit: dinov3_vit
sam2: sam2_vision_model
upernet: upernet
mask2former: mask2former
maskformer: maskformer
superpoint: SuperPointForKeypointDetection
rt_detr_resnet: RTDetrResNetBackbone
vitdet: vitdet
"""

SMP = """
unet: Unet(encoder_name="resnet18") Unet(encoder_name="mobilenet_v2") Unet(encoder_name="efficientnet-b0")
unet: Unet(encoder_name="timm-skresnet18")
unetplusplus: UnetPlusPlus(encoder_name="resnet18")
manet: MAnet(encoder_name="resnet18")
linknet: Linknet(encoder_name="resnet18")
fpn: FPN(encoder_name="resnet18") FPN(encoder_name="mobileone_s0")
pspnet: PSPNet(encoder_name="resnet18")
pan: PAN(encoder_name="resnet18")
deeplabv3: DeepLabV3(encoder_name="resnet18")
deeplabv3plus: DeepLabV3Plus(encoder_name="resnet18") DeepLabV3Plus(encoder_name="tu-mobilenetv3_small_050")
upernet: UPerNet(encoder_name="resnet18") UPerNet(encoder_name="mit_b0")
segformer: Segformer(encoder_name="mit_b0") Segformer(encoder_name="resnet18")
dpt: DPT(encoder_name="tu-vit_base_patch16_224.augreg_in21k")
"""

PROGRAMS = """
timm:resnet10t timm:convnext_atto timm:efficientnet_b0 timm:repvgg_a0 timm:coat_lite_tiny timm:skresnet18
timm:hrnet_w18_small timm:xcit_nano_12_p16_224
torchvision:googlenet torchvision:lraspp_mobilenet_v3_large@1x3x224x224 torchvision:raft_small
ultralytics:yolov8n@1x3x320x320 ultralytics:yolo11n-seg@1x3x320x320 ultralytics:yolov10n@1x3x320x320
transformers:segformer transformers:mobilevit transformers:rt_detr@1x3x256x256
transformers:detr(use_pretrained_backbone=False)@1x3x256x256
smp:Unet(encoder_name="resnet18") smp:DeepLabV3Plus(encoder_name="resnet18")
"""


@dataclass(frozen=True)
class Entry:
    """One model: how the command line names it, its family, and a size to run it at (None: the library's own)."""

    library: str
    family: str
    spec: str
    size: str | None = None


def entries() -> tuple[Entry, ...]:
    """The whole catalogue."""
    libraries = {
        "timm": TIMM,
        "torchvision": TORCHVISION,
        "ultralytics": ULTRALYTICS,
        "transformers": TRANSFORMERS,
        "smp": SMP,
    }
    return tuple(
        Entry(library, family, f"{library}:{name}", size or None)
        for library, text in libraries.items()
        for line in text.strip().splitlines()
        for family, _, names in [line.partition(": ")]
        for name, _, size in [item.partition("@") for item in names.split()]
    )


def programs() -> tuple[Entry, ...]:
    """Models that are exported and converted as ``.pt2``."""
    return tuple(
        Entry(name.partition(":")[0], "programs", name, size or None)
        for name, _, size in (item.partition("@") for item in PROGRAMS.split())
    )
