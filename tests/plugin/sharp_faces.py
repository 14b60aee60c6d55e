from dataclasses import dataclass

from facegen.families import Entry
from facegen.families.vae import VAE, VAEConfig
from facegen.losses.terms import Term


@dataclass
class SharpVAEConfig(VAEConfig):
    """Options of the sharp VAE."""

    edge_weight: float = 0.1
    """Weight of the absolute error."""


class SharpVAE(VAE):
    """VAE that also minimizes the absolute error, which blurs edges less than the squared one."""

    def objective(self, batch, reconstructions, *posterior):
        """The VAE's terms and the absolute error."""
        result = super().objective(batch, reconstructions, *posterior)
        error = (batch.images - reconstructions).abs().mean()
        return result._replace(terms=result.terms | {"edges": Term(error, self.config.edge_weight)})


FAMILY = Entry(SharpVAEConfig, SharpVAE)
