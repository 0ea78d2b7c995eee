# Filters that shrink the test images, with the layer's resize matrix of the same filter (matched) or of antialiased bilinear
# (unmatched): untuned, which is the method prior, and tuned.
base = '../setr_mspe_5e_camvid.py'
seeds = (0, 1, 2)
resolutions = (30, 60, 90, 120, 180, 210)
model = 'model.backbone.downsampling'
variants = dict(
    bilinear=dict(tune=False),
    bilinear_tuned={},
    opencv_unmatched=dict(tune=False, degrade='by_opencv'),
    opencv_matched={'tune': False, model: dict(interpolation='bilinear', antialias=False)},
    opencv_unmatched_tuned=dict(degrade='by_opencv'),
    opencv_matched_tuned={model: dict(interpolation='bilinear', antialias=False)},
    bicubic_unmatched=dict(tune=False, degrade='by_bicubic'),
    bicubic_matched={'tune': False, model: dict(interpolation='bicubic')},
    bicubic_unmatched_tuned=dict(degrade='by_bicubic'),
    bicubic_matched_tuned={model: dict(interpolation='bicubic')},
    area_unmatched=dict(tune=False, degrade='by_area'),
    area_matched={'tune': False, model: dict(interpolation='area')},
    area_unmatched_tuned=dict(degrade='by_area'),
    area_matched_tuned={model: dict(interpolation='area')},
    nearest_unmatched=dict(tune=False, degrade='by_nearest'),
    nearest_matched={'tune': False, model: dict(interpolation='nearest')},
    nearest_unmatched_tuned=dict(degrade='by_nearest'),
    nearest_matched_tuned={model: dict(interpolation='nearest')})
