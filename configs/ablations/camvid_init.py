# Initial kernels, and the number of images that calibrate them: calibrated only, and calibrated then tuned.
base = '../setr_mspe_5e_camvid.py'
seeds = (0, 1, 2)
resolutions = (30, 60, 90, 120, 180, 210, 240)
references = ('flexivit', 'prior')
images = 'data/camvid/images/train'
native = {'model.backbone.parameterization': 'native'}
variants = dict(
    default={},    # the prior: PI-resize for correlated pixels
    pi={'model.backbone.downsampling.correlation': 0.},
    calibrated=dict(init='calibrated', num_images=64),
    random=dict(init='random'),
    native=native,
    native_calibrated=dict(init='calibrated', num_images=64, **native),
    native_random=dict(init='random', **native),
    images_8=dict(init='calibrated', num_images=8, tune=False),
    images_16=dict(init='calibrated', num_images=16, tune=False),
    images_32=dict(init='calibrated', num_images=32, tune=False),
    images_64=dict(init='calibrated', num_images=64, tune=False),
    images_128=dict(init='calibrated', num_images=128, tune=False),
    images_256=dict(init='calibrated', num_images=256, tune=False),
    images_all=dict(init='calibrated', tune=False))
