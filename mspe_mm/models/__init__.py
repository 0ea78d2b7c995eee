"""Converting a built model, finding its MSPE layer, and the files of its weights: adapters and checkpoints."""
