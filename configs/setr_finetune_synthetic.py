# The full fine-tuning baseline of setr_mspe_synthetic.py: trains all weights of setr_synthetic.py's model, with each batch at
# four resolutions; as many images pass through the encoder. Patches stay 16 px, and the token grid follows the image. With
# model.backbone.kernel_policy=fixed the token grid stays and the patch kernel is resized, as FlexiViT's.
# To compare: tools/eval_multiscale.py configs/setr_mspe_synthetic.py ... --finetuned work_dirs/setr_finetune_synthetic/epoch_5.pth
_base_ = './setr_mspe_5e_synthetic.py'
model = dict(
    backbone=dict(kernel_sizes=(16, ), kernel_policy='constant'),
    tuning=None,
    resolutions=[(32, 32), (64, 64), (96, 96), (128, 128)])
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys=dict(pos_embed=dict(decay_mult=0.))))
train_dataloader = dict(batch_size=8)
strict_load = True    # what is trained on has to be that model
custom_hooks = []    # no adapter: everything trains
val_cfg = dict(_delete_=True, type='ValLoop')
