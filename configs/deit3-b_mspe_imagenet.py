# Tunes the patch embedding of timm's DeiT III-B (ImageNet-22K, then 1K).
_base_ = './vit-b_mspe_imagenet.py'
model = dict(timm_name='deit3_base_patch16_224.fb_in22k_ft_in1k')
