"""What grad-cam, captum and torchcam say of the same model, layer and class; they are installed for tests only."""
