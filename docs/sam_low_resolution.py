"""Segment Anything on small images: the MSPE layer in its image encoder; prompt encoder and mask decoder stay as they are.

    python docs/sam_low_resolution.py --checkpoint facebook/sam-vit-base --image photograph.jpg --points 300,200 520,410
    python docs/sam_low_resolution.py --tiny

Shrinks an image to a quarter of the base resolution, 256 px for SAM. Prints the IoU of the masks at given points with the
masks of the image at the base resolution, and the floating-point operations of the encoder. --tiny needs no weights: it
trains a very small SAM on drawn scenes, and tunes its patch kernels on the same scenes without their masks. Needs
transformers.
"""
import argparse
import sys
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import SamConfig, SamImageProcessor, SamModel

from mspe_mm import InputError, convert_patch_embed, load_adapter
from mspe_mm.data.scenes import draw_crowd
from mspe_mm.evaluation.flops import count_flops
from mspe_mm.tuning.distillation import distillation_loss, feature_distance
from mspe_mm.tuning.freezing import freeze_all_but_kernels
from mspe_mm.tuning.mixed_objective import MixedResolutionObjective
from mspe_mm.tuning.tuned_model import Outputs

TINY = dict(
    vision_config=dict(
        hidden_size=64, output_channels=64, num_hidden_layers=3, num_attention_heads=4, mlp_dim=128, image_size=256,
        window_size=7, global_attn_indexes=[1, 2], num_pos_feats=32, initializer_range=0.02),
    prompt_encoder_config=dict(hidden_size=64, image_size=256),
    mask_decoder_config=dict(hidden_size=64, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=64))


def pixels(image, length):
    """An RGB image whose longer side is resized to ``length`` px, padded to a square as SAM does: (1, 3, length, length)."""
    processor = SamImageProcessor(size=dict(longest_edge=length), pad_size=dict(height=length, width=length))
    return processor(images=image, return_tensors='pt').pixel_values


@torch.no_grad()
def masks(model, embeddings, points):
    """The mask (H, W) of each point that the decoder rates best.

    Args:
        model: SAM.
        embeddings: (1, D, rows, columns) of the encoder.
        points: (N, 2), x and y in pixels of the base resolution, whatever the resolution of the image.
    """
    found = model(image_embeddings=embeddings, input_points=points[None, :, None])
    best = found.iou_scores[0].argmax(1)
    return found.pred_masks[0, torch.arange(len(best)), best] > 0


def iou(a, b):
    """Intersection over union of masks (N, H, W), the mean over N; two empty masks are equal."""
    union = (a | b).flatten(1).sum(1)
    return ((a & b).flatten(1).sum(1) / union.clamp(min=1)).where(union > 0, 1.).mean().item()


def objects_of(scene, count=4):
    """Points (N, 2), x and y in pixels, one on each of the ``count`` largest objects of a scene; their masks (N, H, W)."""
    numbers, areas = np.unique(scene.instances[scene.instances > 0], return_counts=True)
    truth = np.stack([scene.instances == number for number in numbers[np.argsort(-areas)][:count]])
    rng = np.random.default_rng(0)
    points = [rng.permutation(np.argwhere(mask))[0][::-1] for mask in truth]
    return torch.tensor(np.array(points), dtype=torch.float32), torch.from_numpy(truth)


def train_tiny(scenes, steps):
    """A very small SAM that is trained for so many steps to give the object at a point.

    As in SAM's training, the best of three masks counts, and the decoder learns to predict its IoU.
    """
    torch.manual_seed(0)
    model = SamModel(SamConfig(**TINY))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for step in range(steps):
        scene = scenes[step % len(scenes)]
        points, truth = objects_of(scene)
        found = model(pixels(Image.fromarray(scene.image), TINY['vision_config']['image_size']),
                      input_points=points[None, :, None])
        logits = found.pred_masks[0]
        target = F.interpolate(truth[None].float(), logits.shape[-2:], mode='area')[0, :, None].expand_as(logits)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction='none').mean((2, 3))
        p = logits.sigmoid()
        overlap = (p * target).sum((2, 3)) / (p + target - p * target).sum((2, 3))
        loss = (cross_entropy + 1 - overlap).amin(1).mean() + F.mse_loss(found.iou_scores[0], overlap.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def tune(encoder, layer, batches):
    """Tune the kernels so that the encoder's features of small images are those of the images (B, 3, H, W) themselves."""
    freeze_all_but_kernels(encoder, layer)
    objective = MixedResolutionObjective(sampling='partition', objective='distill')
    optimizer = torch.optim.AdamW(layer.kernels.parameters(), lr=1e-3, weight_decay=0.)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=len(batches))
    layer.train()
    for images in batches:
        loss = distillation_loss(layer, images, lambda x: Outputs([encoder(x).last_hidden_state]), feature_distance)
        optimizer.zero_grad()
        sum(objective(layer, images, loss).values()).backward()
        optimizer.step()
        schedule.step()
    layer.eval()


def compare(model, encoders, cases, size):
    """Print a row for each way to embed small images: the mean IoU of their masks, and the cost of an image.

    Args:
        model: SAM.
        encoders: By the name of the row, a function that maps images (1, 3, size, size) to embeddings.
        cases: RGB images, each with its points (N, 2), x and y in pixels of the image.
        size: Length in pixels that the longer side of an image is shrunk to.
    """
    base = model.vision_encoder.config.image_size
    print(f'{"image":24} {"IoU":>6} {"encoder GFLOP":>14} {"pixels":>8}')
    for name, encode in encoders.items():
        length = base if name == 'base' else size
        ious = []
        for image, points in cases:
            scale = base / max(image.size)
            # The decoder's masks are of a quarter of the base resolution; the padding does not count.
            columns, rows = (round(length * scale / 4) for length in image.size)
            found, expected = (masks(model, run(pixels(image, side)), points * scale)[:, :rows, :columns]
                               for side, run in ((length, encode), (base, model.get_image_embeddings)))
            ious.append(iou(found, expected))
        x = torch.zeros(1, 3, length, length)
        flops = count_flops(partial(encode, x))
        print(f'{f"{length} px, {name}":24} {np.mean(ious):6.3f} {flops / 1e9:14.3f} {length**2:8}')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument('--checkpoint', help='weights of SAM: a name of the hub, or a folder')
    which.add_argument('--tiny', action='store_true', help='train a very small SAM, without downloads')
    parser.add_argument('--steps', type=int, default=600,
                        help='steps of training, and of tuning, with --tiny; default %(default)s')
    parser.add_argument('--image', help='file; default drawn scenes, with points on their largest objects')
    parser.add_argument('--points', nargs='+', metavar='X,Y', help='pixels of --image')
    parser.add_argument('--size', type=int, help='longer side of the small image in pixels; default a quarter of the base')
    parser.add_argument('--adapter', help="patch kernels that were tuned for the checkpoint's encoder")
    args = parser.parse_args()
    if bool(args.image) != bool(args.points):
        parser.error('--image and --points belong together')
    return args


def main():
    args = parse_args()
    scenes = [draw_crowd((256, 256), 0, 'train', index) for index in range(min(args.steps, 100))] if args.tiny else []
    model = train_tiny(scenes, args.steps) if args.tiny else SamModel.from_pretrained(args.checkpoint).eval()
    base = model.vision_encoder.config.image_size

    if args.image:
        points = torch.tensor([[float(value) for value in point.split(',')] for point in args.points])
        cases = [(Image.open(args.image).convert('RGB'), points)]
    else:
        drawn = [draw_crowd((base, base), 0, 'val', index) for index in range(20 if args.tiny else 1)]
        cases = [(Image.fromarray(scene.image), objects_of(scene)[0]) for scene in drawn]

    layer = convert_patch_embed(model.vision_encoder, base)    # a quarter of the base: patches of 4 px instead of 16
    encode = model.get_image_embeddings
    size = args.size or base // 4
    compare(model, {'base': encode, 'MSPE, not tuned': encode,
                    'enlarged': lambda x: encode(F.interpolate(x, (base, base), mode='bilinear'))}, cases, size)
    if args.tiny:
        images = torch.cat([pixels(Image.fromarray(scene.image), base) for scene in scenes])
        tune(model.vision_encoder, layer, [images[torch.randint(len(images), (4, ))] for _ in range(args.steps)])
    if args.adapter:
        load_adapter(layer, args.adapter)
    if args.tiny or args.adapter:
        compare(model, {'MSPE, tuned': encode}, cases, size)


if __name__ == '__main__':
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f'error: {error}')
