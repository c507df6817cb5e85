import copy
import importlib.util
from pathlib import Path

import open_clip
import pytest
import torch
from torch.nn import functional as F

from varireal_utils.models import clip_lora, lora_io, prefix_tree

SPEC = importlib.util.spec_from_file_location(
    "clip_lora_reference", Path(__file__).parents[1] / "reference" / "clip_lora_reference.py"
)
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)

CFG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 60, "width": 24, "heads": 3, "layers": 2},
}
END = 59  # the highest id: open_clip pools at the argmax


def model(pool="tok", custom=False):
    torch.manual_seed(3)
    cfg = copy.deepcopy(CFG)
    cfg["vision_cfg"]["pool_type"] = pool
    net = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**cfg)
    for p in net.parameters():  # zero biases and unit gains would hide mistakes
        p.data.add_(0.1 * torch.randn_like(p))
    return net.eval(), cfg


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randn(6, 3, 32, 32, generator=g)
    tokens = torch.zeros(5, 16, dtype=torch.long)
    for row, length in zip(tokens, (3, 9, 5, 7, 4), strict=True):
        row[:length] = torch.randint(1, END, (length,), generator=g)
        row[:2] = torch.tensor([7, 8])  # "a photo"
        row[length] = END
    return pixels, tokens, torch.tensor([0, 1, 2, 3, 4, 0])


def logits(net, pixels, tokens):
    image, text = clip_lora.encode_image(net, pixels), clip_lora.encode_text(net, tokens)
    return net.logit_scale.exp() * image @ text.T


def relative(a, b):
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max())


def perturb(net, seed=1):
    """B away from zero, as after some training."""
    g = torch.Generator().manual_seed(seed)
    state = lora_io.lora_state_dict(net)
    lora_io.load_lora_state_dict(
        net, {k: v + 0.05 * torch.randn(v.shape, generator=g) for k, v in state.items()}
    )


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_fresh_adapters_change_nothing(pool, custom):
    net, _ = model(pool, custom)
    pixels, tokens, _ = batch()
    with torch.no_grad():
        before = net.encode_image(pixels, normalize=True), net.encode_text(tokens, normalize=True)
        params = clip_lora.add_lora(net, rank=4, alpha=8)
        after = clip_lora.encode_image(net, pixels), clip_lora.encode_text(net, tokens)
        own = net.encode_text(tokens, normalize=True)
    for a, b in zip(after, before, strict=True):
        assert relative(a, b) < 1e-5
    assert relative(own, before[1]) < 1e-5
    assert len(params) == 16 and all(p.requires_grad for p in params)
    assert sum(p.requires_grad for p in net.parameters()) == 16


@pytest.mark.parametrize("pool, shared", [("tok", True), ("avg", True), ("tok", False)])
def test_training_equals_the_plain_reference(pool, shared, monkeypatch):
    """Logits, loss and adapter gradients over five AdamW steps, to 1e-5 relative."""
    build = prefix_tree.build_prefix_tree
    monkeypatch.setattr(
        prefix_tree,
        "build_prefix_tree",
        lambda tokens, ends, _, device: build(tokens, ends, shared, device),
    )
    net, cfg = model(pool)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    params = clip_lora.add_lora(net, rank=4, alpha=8, dropout=0.0, seed=5)
    perturb(net)
    flat = {k: v.clone().requires_grad_() for k, v in lora_io.lora_state_dict(net).items()}
    blocks = {}
    for key, value in flat.items():
        blocks.setdefault(key.rpartition(".")[0], []).append(value)
    ours = torch.optim.AdamW(params, lr=1e-3, weight_decay=1e-2)
    theirs = torch.optim.AdamW(flat.values(), lr=1e-3, weight_decay=1e-2)
    net.train()
    for step in range(5):
        pixels, tokens, labels = batch(step)
        got = logits(net, pixels, tokens)
        want = reference.logits(pixels, tokens, state, cfg, blocks, 8)
        assert relative(got, want) < 1e-5
        losses = F.cross_entropy(got, labels), F.cross_entropy(want, labels)
        assert relative(*losses) < 1e-5
        for optimiser, loss in zip((ours, theirs), losses, strict=True):
            optimiser.zero_grad()
            loss.backward()
        for p, q in zip(params, flat.values(), strict=True):
            assert relative(p.grad, q.grad) < 2e-5
        ours.step()
        theirs.step()


def test_captions_are_laid_out_as_a_tree_of_beginnings():
    tokens = torch.tensor([[1, 2, 3, 9, 0, 0], [1, 2, 9, 0, 0, 0], [1, 2, 3, 4, 9, 0]])
    ends = torch.tensor([3, 2, 4])
    tree = prefix_tree.build_prefix_tree(tokens, ends)
    assert tree.tokens.tolist() == [1, 2, 3, 9, 9, 4, 9]
    assert tree.places.tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert tree.rows.tolist() == [[0, 1, 2, 3, 0], [0, 1, 4, 0, 0], [0, 1, 2, 5, 6]]
    assert tree.ends.tolist() == [3, 4, 6] and tree.seen.sum(1).tolist() == [4, 3, 5]
    assert tree.rows.flatten()[tree.read].tolist() == list(range(7))
    apart = prefix_tree.build_prefix_tree(tokens, ends, shared=False)
    assert len(apart.tokens) == 12 and apart.rows[apart.seen].tolist() == list(range(12))
    assert apart.rows.flatten()[apart.read].tolist() == list(range(12))


@pytest.mark.parametrize("shared", [True, False])
def test_nodes_are_spread_over_their_captions_and_collected(shared):
    """Values and gradients are those of plain indexing, where something is read at all."""
    tokens = torch.tensor([[1, 2, 3, 9, 0, 0], [1, 2, 9, 0, 0, 0], [1, 2, 3, 4, 9, 0]])
    laid = prefix_tree.build_prefix_tree(tokens, torch.tensor([3, 2, 4]), shared)
    x = torch.randn(len(laid.tokens), 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 3, dtype=torch.float64) * laid.seen[..., None]
    spread = laid.spread(x)
    assert torch.equal(spread[laid.seen], x[laid.rows[laid.seen]])
    (got,) = torch.autograd.grad((spread * weight).sum(), x)
    (want,) = torch.autograd.grad((x[laid.rows] * weight).sum(), x)
    assert torch.allclose(got, want)
    y = torch.randn(3, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(laid.collect(y), y.reshape(-1, 3)[laid.read])
    assert torch.autograd.gradcheck(laid.collect, y)


@pytest.mark.parametrize("kind", ["none", "causal", "seen", "added"])
def test_attention_by_products_is_the_kernel_s(kind):
    q, k, v = (torch.randn(2, 3, 7, 4) for _ in range(3))
    mask = {"seen": torch.rand(2, 1, 1, 7) < 0.6, "added": torch.randn(7, 7)}.get(kind)
    if kind == "seen":
        mask[..., 0] = True
    got = clip_lora._by_products(q, k, v, mask, kind == "causal")
    want = F.scaled_dot_product_attention(q, k, v, mask, is_causal=kind == "causal")
    assert relative(got, want) < 1e-5
    half = [t.bfloat16().requires_grad_() for t in (q, k, v)]
    rounded = clip_lora._attend(*half, mask, kind == "causal")
    assert rounded.dtype == torch.bfloat16 and relative(rounded.float(), want) < 2e-2


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_text_is_worked_out_once_for_equal_beginnings_and_exactly(custom, merged):
    net, _ = model(custom=custom)
    clip_lora.add_lora(net, rank=4)
    perturb(net)
    if merged:
        lora_io.merge(net)
    _, tokens, _ = batch()
    blocks, seen = (net.text if custom else net).transformer.resblocks, []
    for block in blocks:
        block.mlp.register_forward_hook(lambda _, given, out: seen.append(len(given[0])))
    padded_with_end = tokens.masked_fill(tokens == 0, END)  # as the micro tokenizer pads
    with torch.no_grad():
        found = clip_lora.encode_text(net, tokens), clip_lora.encode_text(net, padded_with_end)
        beginnings = {
            tuple(row[: n + 1]) for row in tokens.tolist() for n in range(row.index(END) + 1)
        }
        assert seen == 2 * [len(beginnings), 5] and len(beginnings) <= 25 < int((tokens > 0).sum())
        want = net.encode_text(tokens, normalize=True)
        assert relative(found[0], want) < 1e-5 and torch.equal(*found)
        assert relative(clip_lora.encode_text(net, tokens[1:2]), want[1:2]) < 1e-5


def test_an_evaluation_leaves_a_layout_that_a_training_can_use():
    net, _ = model()
    clip_lora.add_lora(net, rank=4)
    tokens = torch.tensor([[1, 2, 3, END] + [0] * 12])  # of no other test: the layout is kept
    with torch.inference_mode():
        clip_lora.encode_text(net, tokens)
    clip_lora.encode_text(net.train(), tokens).sum().backward()


def test_noise_is_drawn_by_beginning_or_by_caption_and_each_caption_has_the_same():
    tokens, draws = batch()[1][[0, 0, 1]], {}
    for noise in clip_lora.NOISE:
        net, _ = model()
        clip_lora.add_lora(net, rank=4, alpha=32, dropout=0.3, noise=noise)
        perturb(net)
        torch.manual_seed(1)
        with torch.no_grad():
            draws[noise] = torch.stack(
                [clip_lora.encode_text(net.train(), tokens) for _ in range(600)]
            )
            net.eval()
            quiet = clip_lora.encode_text(net, tokens)
        assert torch.equal(quiet[0], quiet[1])
        assert float(draws[noise].std(0).min()) > 1e-3
    prefix, caption = draws["prefix"], draws["caption"]
    assert torch.equal(prefix[:, 0], prefix[:, 1])
    assert not torch.equal(caption[:, 0], caption[:, 1])
    both = torch.stack([prefix, caption])[:, :, [0, 2]]  # (2 ways, draws, captions, D)
    error = (both.var(1).sum(0) / both.shape[1]).sqrt()
    assert float(((both[0] - both[1]).mean(0) / error).abs().max()) < 4.5
    assert float((both[0].std(0) / both[1].std(0) - 1).abs().max()) < 0.15


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("merged", [False, True])
def test_the_last_block_works_out_the_class_token_alone_and_exactly(pool, merged):
    net, _ = model(pool)
    clip_lora.add_lora(net, rank=4)
    perturb(net)
    if merged:
        lora_io.merge(net)
    pixels, _, _ = batch()
    seen = []
    net.visual.transformer.resblocks[-1].mlp.register_forward_hook(
        lambda _, given, out: seen.append(given[0].shape[1])
    )
    with torch.no_grad():
        found = clip_lora.encode_image(net, pixels)
        want = net.encode_image(pixels, normalize=True)
    assert seen == [1 if pool == "tok" else 17, 17]  # 16 patches and the class token
    assert relative(found, want) < 1e-6


def test_the_class_token_alone_draws_the_same_dropout():
    net, _ = model()
    clip_lora.add_lora(net, rank=4, dropout=0.5)
    perturb(net)
    pixels, found = batch()[0], []
    for encode in (clip_lora.encode_image, lambda n, x: n.encode_image(x, normalize=True)):
        torch.manual_seed(5)
        found.append(encode(net.train(), pixels))
    assert relative(*found) < 1e-5


@pytest.mark.parametrize("p", [0.1, 0.5, 1 - 2**-16, 1 - 2**-40])
def test_dropout_takes_its_share_and_keeps_the_mean(p):
    torch.manual_seed(1)
    x = torch.rand(2**19 + 3, 2).requires_grad_()  # no multiple of four
    thin, kept = clip_lora._thinned(x, p)
    thin.sum().backward()
    stays = x.grad
    assert set(stays.unique().tolist()) <= {0.0, 1.0} and torch.equal(thin, x * stays)
    assert abs(kept - (1 - p)) <= 2**-16
    drawn = stays.view(-1)
    for lane in [drawn, *(drawn[i::4] for i in range(4))]:  # four entries share a random number
        deviation = (kept * (1 - kept) / len(lane)) ** 0.5
        assert abs(float(lane.mean()) - kept) < 4 * deviation
    for shift in range(1, 5):  # neighbours are kept together as often as independence has it
        both = float((drawn[shift:] * drawn[:-shift]).mean())  # terms that overlap are not apart
        spread = (kept**2 + 2 * kept**3 - 3 * kept**4) / len(drawn)
        assert abs(both - kept**2) < 4 * spread**0.5 + 1e-9


@pytest.mark.parametrize("p", [0, 1])
def test_dropout_of_nothing_and_of_all(p):
    thin, kept = clip_lora._thinned(torch.ones(5, 3), p)
    assert kept == 1 and torch.equal(thin, torch.full((5, 3), 1.0 - p))


def test_a_step_draws_new_noise_and_evaluation_draws_none():
    net, _ = model()
    clip_lora.add_lora(net, rank=4, dropout=0.5)
    perturb(net)
    pixels = batch()[0]
    with torch.no_grad():
        first, second = (clip_lora.encode_image(net.train(), pixels) for _ in range(2))
        third, fourth = (clip_lora.encode_image(net.eval(), pixels) for _ in range(2))
    assert relative(first, second) > 1e-3
    assert torch.equal(third, fourth)


def test_merging_loading_and_evaluating_twice_change_nothing(tmp_path):
    net, _ = model()
    plain = {k: v.clone() for k, v in net.state_dict().items()}
    clip_lora.add_lora(net, rank=4, alpha=8)
    perturb(net)
    pixels, tokens, _ = batch()
    with torch.no_grad():
        want = logits(net, pixels, tokens)
        lora_io.merge(net)
        once = logits(net, pixels, tokens)
        lora_io.merge(net)
        assert torch.equal(logits(net.eval().eval(), pixels, tokens), once)
        assert relative(once, want) < 1e-5
        lora_io.save_lora(net, tmp_path)  # unmerged, even while merged
        lora_io.unmerge(net)
        lora_io.unmerge(net)
        assert torch.equal(logits(net, pixels, tokens), want)
        lora_io.load_lora(net, tmp_path)
        lora_io.load_lora(net, tmp_path)
        assert torch.equal(logits(net, pixels, tokens), want)
        for key, value in plain.items():
            assert torch.equal(net.state_dict()[key], value)
        other, _ = model()
        other.load_state_dict(lora_io.merged_state_dict(net))  # a plain open_clip checkpoint
        whole = other.encode_image(pixels, normalize=True), other.encode_text(tokens, True)
        assert relative(other.logit_scale.exp() * whole[0] @ whole[1].T, want) < 1e-5
    lora_io.merge(net)
    with pytest.raises(RuntimeError, match="unmerge"):
        net.train()(pixels, tokens)


@pytest.mark.parametrize("towers", [("image",), ("text",), ("image", "text")])
def test_a_fresh_model_and_peft_itself_read_the_saved_adapter(tmp_path, towers, recwarn):
    peft = pytest.importorskip("peft")
    net, _ = model()
    clip_lora.add_lora(net, rank=4, alpha=8, towers=towers)
    perturb(net)
    lora_io.save_lora(net, tmp_path / "a")
    lora_io.save_lora(net, tmp_path / "b")
    for name in (lora_io.WEIGHTS, lora_io.CONFIG):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    pixels, tokens, _ = batch()
    fresh, _ = model()
    lora_io.load_lora(fresh, tmp_path / "a")
    theirs = peft.PeftModel.from_pretrained(model()[0], tmp_path / "a").eval()
    with torch.no_grad():
        want = logits(net, pixels, tokens)
        assert torch.equal(logits(fresh.eval(), pixels, tokens), want)
        base = theirs.base_model.model
        image, text = base.encode_image(pixels, True), base.encode_text(tokens, True)
        assert relative(base.logit_scale.exp() * image @ text.T, want) < 1e-5
    assert not [w for w in recwarn if "adapter keys" in str(w.message)]


def test_the_start_depends_on_the_seed_and_the_place_only():
    first, second, third, image = (model()[0] for _ in range(4))
    for net, seed in ((first, 1), (second, 1), (third, 2)):
        clip_lora.add_lora(net, rank=4, seed=seed)
    clip_lora.add_lora(image, rank=4, seed=1, towers=("image",))
    a, b, c, d = map(lora_io.lora_state_dict, (first, second, third, image))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not any(torch.equal(a[k], c[k]) for k in a if ".A_" in k)
    assert set(d) == {k for k in a if k.startswith("visual.")}
    assert all(torch.equal(a[k], d[k]) for k in d)


def test_bfloat16_autocast_keeps_adapters_in_float32():
    net, _ = model()
    params = clip_lora.add_lora(net, rank=4)
    pixels, tokens, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        F.cross_entropy(logits(net.train(), pixels, tokens), labels).backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in params)


def test_errors_say_what_to_do():
    net, _ = model()
    with pytest.raises(ValueError, match="add_lora"):
        lora_io.lora_state_dict(net)
    with pytest.raises(ValueError, match="towers"):
        clip_lora.add_lora(net, towers=("vision",))
    with pytest.raises(ValueError, match="noise: got 'word'"):
        clip_lora.add_lora(net, noise="word")
    clip_lora.add_lora(net, rank=4)
    with pytest.raises(ValueError, match="already"):
        clip_lora.add_lora(net)
    with pytest.raises(ValueError, match="do not fit"):
        lora_io.load_lora_state_dict(net, {})
