# A linear head on a small ViT/16 that is built as SAM's encoder is: windows, decomposed relative positions, a neck.
_base_ = './linear_dinov2-ti_camvid.py'
model = dict(
    backbone=dict(
        model_name='samvit_base_patch16',
        model_kwargs=dict(_delete_=True, embed_dim=192, num_heads=3, window_size=5, neck_chans=192)))
