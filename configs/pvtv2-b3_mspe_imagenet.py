# Tunes the patch embedding of timm's PVT v2-B3. Its patches overlap: at 56, 112, 168 and 224 px the patches have 1, 2, 3 and
# 4 px and their kernels 3, 5, 7 and 7 px, as in the code of the paper's authors.
_base_ = './vit-b_mspe_imagenet.py'
model = dict(timm_name='pvt_v2_b3.in1k', patch_embed=dict(kernel_sizes=(1, 2, 3, 4)))
