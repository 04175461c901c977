"""The layer draw against numbers from the paper's and the published code's laws."""

import numpy as np
import pytest

from owlore.train.sampling import LayerSampler, inclusion_probabilities, layer_weights

# The published outlier ratios of LLaMA2-7B in percent, rounded to five places.
LLAMA2_7B = [
    *(0.26781, 0.29528, 0.12744, 0.11445, 0.09875, 0.08837, 0.08784, 0.08377),
    *(0.08014, 0.07218, 0.07066, 0.06965, 0.06296, 0.05908, 0.05522, 0.05372),
    *(0.04683, 0.03923, 0.03359, 0.03398, 0.03159, 0.02788, 0.02784, 0.02294),
    *(0.02543, 0.02092, 0.02421, 0.01818, 0.01838, 0.02085, 0.02407, 0.08246),
]
# Inclusion probabilities of five successive draws with these weights, by numerical integration.
SUCCESSIVE_5 = [
    *(0.5189, 0.5539, 0.2902, 0.2644, 0.2321, 0.2100, 0.2089, 0.2001, 0.1922, 0.1745, 0.1711),
    *(0.1689, 0.1537, 0.1448, 0.1359, 0.1324, 0.1163, 0.0982, 0.0845, 0.0855, 0.0797, 0.0706),
    *(0.0705, 0.0584, 0.0645, 0.0533, 0.0615, 0.0465, 0.0470, 0.0532, 0.0612, 0.1972),
]


def frequencies(sampler: LayerSampler, draws: int) -> np.ndarray:
    counts = np.zeros(len(sampler.weights))
    for _ in range(draws):
        drawn = sampler.draw()
        assert len(set(drawn)) == sampler.gamma and drawn == sorted(drawn)
        counts[drawn] += 1
    return counts / draws


def test_published_scores_give_the_published_probabilities():
    weights = layer_weights("outlier", 32, LLAMA2_7B)
    assert weights[:4].round(4).tolist() == [0.1225, 0.1351, 0.0583, 0.0524]
    assert weights[31].round(4) == 0.0377
    assert weights.sum() == pytest.approx(1)


def test_successive_draws_match_the_integrated_probabilities():
    sampler = LayerSampler(layer_weights("outlier", 32, LLAMA2_7B), 5, "successive", seed=1)
    found = frequencies(sampler, 20_000)
    assert np.abs(found - SUCCESSIVE_5).max() < 0.015  # four standard errors at p = .5


def test_marginal_draws_match_the_papers_equation():
    weights = layer_weights("outlier", 32, LLAMA2_7B)
    found = frequencies(LayerSampler(weights, 5, "marginal", seed=1), 20_000)
    assert np.abs(found - 5 * weights).max() < 0.015


def test_marginal_caps_at_one_and_still_draws_gamma_layers():
    weights = np.array([0.7, 0.1, 0.1, 0.1])
    inclusion = inclusion_probabilities(weights, 2)
    assert inclusion.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert frequencies(LayerSampler(weights, 2, "marginal"), 200)[0] == 1


@pytest.mark.parametrize("law", ["successive", "marginal"])
def test_fewer_positive_scores_than_gamma(law):
    weights = layer_weights("outlier", 5, [0, 1, 0, 0, 0])
    found = frequencies(LayerSampler(weights, 3, law), 500)
    assert found[1] == 1
    assert found[[0, 2, 3, 4]].min() > 0.3  # the rest is uniform: 1/2 each


def test_all_zero_scores_are_uniform():
    assert layer_weights("outlier", 4, [0, 0, 0, 0]).tolist() == [0.25] * 4


def test_reversed_turns_the_order_round_and_leaves_no_layer_out():
    scores = np.array(LLAMA2_7B)
    turned = layer_weights("outlier-reversed", 32, LLAMA2_7B)
    assert (turned > 0).all()
    assert np.argsort(turned).tolist() == np.argsort(-scores).tolist()
    assert (layer_weights("outlier-reversed", 3, [0, 1, 2]) > 0).all()


def test_depth_weights():
    assert layer_weights("decrease", 3).tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert layer_weights("increase", 3).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])


@pytest.mark.parametrize("law", ["successive", "marginal"])
def test_gamma_of_all_layers_draws_all(law):
    assert LayerSampler(layer_weights("uniform", 4), 4, law).draw() == [0, 1, 2, 3]


@pytest.mark.parametrize("law", ["successive", "marginal"])
def test_state_goes_on_where_it_was_taken(law):
    sampler = LayerSampler(layer_weights("decrease", 12), 3, law, seed=7)
    sampler.draw()
    state = sampler.state_dict()
    expected = [sampler.draw() for _ in range(5)]
    other = LayerSampler(layer_weights("decrease", 12), 3, law, seed=0)
    other.load_state_dict(state)
    assert [other.draw() for _ in range(5)] == expected


def test_no_global_random_state_is_touched():
    before = np.random.get_state()[1].copy()
    LayerSampler(layer_weights("uniform", 8), 2).draw()
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (None, "needed"),
        ([1, 2], "2 outlier scores for 3"),
        ([1, 2, float("nan")], "finite"),
        ([1, 2, -1], "not negative"),
    ],
)
def test_bad_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        layer_weights("outlier", 3, scores)


@pytest.mark.parametrize("gamma", [0, 5])
def test_bad_gamma(gamma):
    with pytest.raises(ValueError, match="allowed 1 to 4"):
        LayerSampler(layer_weights("uniform", 4), gamma)
