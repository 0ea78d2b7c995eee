# The full fine-tuning baseline of setr_mspe_5e_camvid.py: trains all weights of setr_camvid.py's model, in as many epochs, with
# each batch at four resolutions, as ResFormer does (without its architecture). Patches stay 16 px, and the token grid
# follows the image. The optimiser is that of the base model, at a tenth of its learning rate.
# With model.backbone.kernel_policy=fixed the token grid stays and the patch kernel is resized. docs/results.md has both.
# To compare: tools/eval_multiscale.py configs/setr_mspe_5e_camvid.py ... --finetuned work_dirs/setr_finetune_camvid/epoch_5.pth
_base_ = './setr_mspe_5e_camvid.py'
model = dict(
    backbone=dict(kernel_sizes=(16, ), kernel_policy='constant'),
    tuning=None,
    resolutions=[(60, 80), (120, 160), (180, 240), (240, 320)])
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys=dict(pos_embed=dict(decay_mult=0.))))
strict_load = True    # what is trained on has to be that model
custom_hooks = []    # no adapter: everything trains
val_cfg = dict(_delete_=True, type='ValLoop')
