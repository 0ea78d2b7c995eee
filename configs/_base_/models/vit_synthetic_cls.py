# A very small ViT for the synthetic class folders: 64 px are 4 patches of 16.
model = dict(
    type='TimmClassifier',
    timm_name='vit_tiny_patch16_224',
    model_kwargs=dict(img_size=64, embed_dim=128, depth=4, num_heads=4, num_classes=8))
