"""Generated data sets, images without annotations, image pairs for calibration, and changes of resolution."""
