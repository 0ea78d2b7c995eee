# Pipelines that lower the resolution otherwise than the layer's downsampling, for --degrade of tools/calibrate.py and
# tools/eval_multiscale.py.
by_area = [dict(type='ChangeResolution', interpolation='area')]    # a camera with larger pixels
by_opencv = [dict(type='ChangeResolution', interpolation='bilinear', antialias=False)]    # mmcv's Resize
by_bicubic = [dict(type='ChangeResolution', interpolation='bicubic')]
by_nearest = [dict(type='ChangeResolution', interpolation='nearest')]
by_jpeg = [dict(type='ChangeResolution', interpolation='bilinear'), dict(type='CompressJPEG', quality=50)]
by_camera = [dict(type='AddBlur', sigma=1.0), *by_area, dict(type='AddNoise', sigma=4.0), *by_jpeg[1:]]
