import pytest
import torch
from scipy import ndimage
from skimage import data

from operators.enhance.critic import PatchCritic, adversarial_loss


def sharp() -> torch.Tensor:
    """(1, 3, 128, 128) float32 in [-1, 1]."""
    return torch.from_numpy(data.astronaut()[20:148, 160:288].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def soft() -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(sharp().numpy(), (0, 0, 1.5, 1.5)))


def critic() -> PatchCritic:
    torch.manual_seed(0)
    return PatchCritic()


def test_every_patch_has_a_verdict_of_its_own() -> None:
    model, image = critic().eval(), sharp()
    changed = image.clone()
    changed[..., 100:108, 100:108] = 0
    moved = (model(changed) - model(image))[0, 0].detach().abs() > 1e-6
    assert moved.shape == (16, 16)
    assert moved[12, 12]
    assert not moved[:9].any()  # 100 - 9 * 8 pixels away: beyond what a patch sees


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_the_enhancer_climbs_what_the_critic_descends(weight: float) -> None:
    model = critic().eval()
    enhanced = soft().requires_grad_()
    loss = adversarial_loss(model, enhanced, sharp(), weight)
    loss.backward()
    plain = soft().requires_grad_()
    torch.nn.functional.softplus(model(plain)).mean().backward()
    assert enhanced.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(enhanced.grad, -weight * plain.grad)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_it_learns_to_tell_soft_from_sharp_and_says_which_way_sharp_is() -> None:
    model = critic()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        adversarial_loss(model, soft(), sharp(), 0.0).backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        assert float(model(sharp()).mean() - model(soft()).mean()) > 0.05
    enhanced = soft().requires_grad_()
    adversarial_loss(model, enhanced, sharp(), 1.0).backward()
    assert enhanced.grad is not None
    detail = sharp() - soft()
    assert float((-enhanced.grad * detail).sum()) > 0  # a step down the gradient adds detail
