# dinov2-ti_distill_camvid.py for the backbone of linear_sam-ti_camvid.py. The adapter is one of linear_sam-ti_mspe_camvid.py.
_base_ = './dinov2-ti_distill_camvid.py'
model = dict(
    backbone=dict(
        model_name='samvit_base_patch16',
        model_kwargs=dict(_delete_=True, embed_dim=192, num_heads=3, window_size=5, neck_chans=192)))
load_from = 'work_dirs/linear_sam-ti_camvid/epoch_100.pth'    # the head is left out
