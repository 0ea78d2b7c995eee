# The small ViTDet Mask R-CNN on 12 x 12 tokens of 192 x 192 px, for the eight classes of the synthetic data set.
_base_ = './vitdet_mask-rcnn_vit-ti.py'
img_size = (192, 192)    # (height, width)
model = dict(
    data_preprocessor=dict(img_size=img_size),
    backbone=dict(img_size=img_size, depth=6, window_size=4, window_block_indexes=[0, 2, 4]),
    roi_head=dict(bbox_head=dict(fc_out_channels=256, num_classes=8), mask_head=dict(conv_out_channels=32, num_classes=8)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=100)),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))
