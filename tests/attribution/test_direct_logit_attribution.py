"""The margin as a sum of parts, against a slow sum."""

import numpy as np
import pytest
from surgery import N, forward, said

from toymoe import world
from toymoe.attribution import direct_logit_attribution


def test_the_parts_sum_to_the_margin_and_are_what_a_slow_sum_says(e):
    for prompts in (e.hazards, e.twins):
        parts = direct_logit_attribution.decompose(e.params, e.cfg, prompts)
        total = parts.embedding_B + parts.heads_LHB.sum((0, 1)) + parts.experts_LEB.sum((0, 1))
        np.testing.assert_allclose(total, said(e.params, e.cfg, prompts)[0], atol=1e-4)
        np.testing.assert_allclose(parts.margin_B, total, atol=1e-4)
        out = forward(
            e.params, prompts.tokens_BP, e.cfg, record=("head_out", "contribution", "resid_post")
        )
        for b in (0, N - 1):
            x_D = np.float64(out.record["resid_post"][-1, b, -1])
            unembed = e.params["unembed"]
            toward = unembed[:, world.REFUSE] - unembed[:, int(prompts.answer_B[b])]
            toward = toward * e.params["final_norm"] / np.sqrt((x_D**2).mean() + 1e-5)
            token = int(prompts.tokens_BP[b, -1])
            assert parts.embedding_B[b] == pytest.approx(
                e.params["embed"][token] @ toward, abs=1e-4
            )
            for layer in range(e.cfg.layers):
                heads = out.record["head_out"][layer, b, -1] @ toward
                experts = out.record["contribution"][layer, b, -1] @ toward
                np.testing.assert_allclose(parts.heads_LHB[layer, :, b], heads, atol=1e-4)
                np.testing.assert_allclose(parts.experts_LEB[layer, :, b], experts, atol=1e-4)
