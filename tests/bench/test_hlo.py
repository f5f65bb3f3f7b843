"""Collectives of hand-written programs, with bytes computed by hand."""

import pytest

from vidgen_jax.bench.hlo import Array, payloads

ADD = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}
"""

# A loop with the condition i < 3 from i = 0, an element of the loop's tuple. Its body reduces f32[4].
LOOP = f"""HloModule jit_step, is_scheduled=true
{ADD}
%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {{
  %state = (s32[], f32[4]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %x = f32[4]{{0}} get-tuple-element(%state), index=1
  %reduced = f32[4]{{0}} all-reduce(%x), channel_id=1, replica_groups={{{{0,1,2,3}}}}, to_apply=%add
  ROOT %out = (s32[], f32[4]{{0}}) tuple(%next, %reduced)
}}

%condition (state.1: (s32[], f32[4])) -> pred[] {{
  %limit = s32[] constant(3)
  %state.1 = (s32[], f32[4]{{0}}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}}

ENTRY %main (p: f32[4]) -> f32[4] {{
  %p = f32[4]{{0}} parameter(0)
  %zero = s32[] constant(0)
  %start = s32[] copy(%zero)
  %init = (s32[], f32[4]{{0}}) tuple(%start, %p)
  %loop = (s32[], f32[4]{{0}}) while(%init), condition=%condition, body=%body
  ROOT %result = f32[4]{{0}} get-tuple-element(%loop), index=1
}}
"""


def _entry(*lines: str) -> str:
  body = "\n".join(f"  {line}" for line in lines)
  return (
    f"HloModule m\n{ADD}\nENTRY %main (p: f32[8,2]) -> f32[8,2] {{\n  %p = f32[8,2]{{1,0}} parameter(0)\n{body}\n}}\n"
  )


def test_a_tuple_is_one_collective_with_several_payloads():
  text = _entry(
    '%w = bf16[3,5]{1,0:T(8,128)(2,1)} fusion(%p), kind=kLoop, calls=%f, metadata={op_name="jit(step)/dot"}',
    "%s = f32[]{:T(256)} constant(1)",
    "%r = (bf16[3,5]{1,0:T(8,128)(2,1)}, /*index=1*/f32[]{:T(256)}) all-reduce(%w, %s), "
    'replica_groups=[1,8]<=[8], to_apply=%add, metadata={op_name="jit(step)/first"}',
    "ROOT %o = f32[8,2]{1,0} copy(%p)",
  )
  first, second = payloads(text)
  # 15 bfloat16 have 30 bytes, and a scalar has 4.
  assert (first.array, first.bytes, first.group) == (Array(dtype="bf16", shape=(3, 5)), 30, 8)
  assert (second.array.shape, second.bytes) == ((), 4)
  # The scope is that of the operand, because XLA combined two collectives.
  assert (first.scope, second.scope) == ("jit(step)/dot", "")
  assert first.serves == second.serves == "jit(step)/first"
  assert (first.is_first, second.is_first) == (True, False)


def test_arrays_without_a_name_get_that_of_near_instructions():
  text = _entry(
    "%s = f32[] constant(1)",
    "%r = (f32[8,2]{1,0}, f32[]) all-reduce(%p, %s), replica_groups={}, to_apply=%add",
    "%p.1 = f32[8,2]{1,0} get-tuple-element(%r), index=0",
    "%p.2 = f32[16]{0} bitcast(%p.1)",
    '%p.3 = f32[16]{0} negate(%p.2), metadata={op_name="jit(step)/pairs"}',
    "%s.1 = f32[] get-tuple-element(%r), index=1",
    "ROOT %o = f32[8,2]{1,0} copy(%p)",
  )
  assert [payload.wanted_by for payload in payloads(text)] == ["jit(step)/pairs", ""]
  fused = (
    "%inside (q: f32[8,2]) -> f32[8,2] {\n  %q = f32[8,2]{1,0} parameter(0)\n"
    '  ROOT %n = f32[8,2]{1,0} negate(%q), metadata={op_name="jit(step)/fused"}\n}\n'
  )
  text = _entry(
    "%f = f32[8,2]{1,0} fusion(%p), kind=kLoop, calls=%inside",
    "%b = f32[8,2]{1,0} copy(%f)",
    "ROOT %r = f32[8,2]{1,0} all-reduce(%b), replica_groups={}, to_apply=%add",
  ).replace("\nENTRY", f"\n{fused}\nENTRY")
  assert [payload.scope for payload in payloads(text)] == ["jit(step)/fused"]


def test_whole_arrays_count():
  text = _entry(
    "%g = f32[8,16]{1,0} all-gather(%p), replica_groups=[2,8]<=[16], dimensions={1}",
    "%r = f32[1,2]{1,0} reduce-scatter(%p), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}, to_apply=%add",
    "%a = f32[8,2]{1,0} all-to-all(%p), replica_groups={{0,1}}, dimensions={0}",
    "ROOT %c = f32[8,2]{1,0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}",
  )
  moved = [(payload.kind, payload.bytes, payload.group) for payload in payloads(text)]
  # [8, 2] of float32 has 64 bytes, [8, 16] has 512.
  assert moved == [
    ("all-gather", 512, 8),
    ("reduce-scatter", 64, 8),
    ("all-to-all", 64, 2),
    ("collective-permute", 64, None),
  ]


def test_asynchronous_forms_count_once():
  text = _entry(
    "%g = (f32[8,2]{1,0}, f32[8,16]{1,0}) all-gather-start(%p), replica_groups={{0,1}}, dimensions={1}",
    "%gd = f32[8,16]{1,0} all-gather-done(%g)",
    "%r = f32[8,2]{1,0} all-reduce-start(%p), replica_groups={{0,1}}, to_apply=%add",
    "ROOT %rd = f32[8,2]{1,0} all-reduce-done(%r)",
  )
  assert [(payload.kind, payload.bytes) for payload in payloads(text)] == [("all-gather", 512), ("all-reduce", 64)]


def test_wrapped_asynchronous_collectives_are_found():
  inner = (
    "%wrapped (q: f32[8,2]) -> f32[1,2] {\n  %q = f32[8,2]{1,0} parameter(0)\n"
    "  ROOT %s = f32[1,2]{1,0} reduce-scatter(%q), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add\n}\n"
  )
  text = _entry(
    "%start = ((f32[8,2]{1,0}), f32[1,2]{1,0}) async-start(%p), calls=%wrapped",
    "%done = f32[1,2]{1,0} async-done(%start), calls=%wrapped",
    "ROOT %o = f32[8,2]{1,0} copy(%p)",
  ).replace("\nENTRY", f"\n{inner}\nENTRY")
  (payload,) = payloads(text)
  assert (payload.kind, payload.bytes, payload.times) == ("reduce-scatter", 64, 1)


def test_iterations_of_a_loop_from_its_condition():
  (payload,) = payloads(LOOP)
  # Three times four float32.
  assert (payload.times, payload.bytes) == (3, 48)


def test_iterations_of_a_loop_from_xla():
  known = 'body=%body, backend_config={"known_trip_count":{"n":"7"}}'
  (payload,) = payloads(LOOP.replace("body=%body", known))
  assert (payload.times, payload.bytes) == (7, 7 * 16)


def test_iterations_of_nested_loops_multiply():
  body = LOOP[LOOP.index("%body (") : LOOP.index("%condition (")]
  inner = body.replace("%body (", "%inner (")
  outer = body.replace(
    "%reduced = f32[4]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add",
    "%again = (s32[], f32[4]{0}) while(%state), condition=%condition, body=%inner, "
    'backend_config={"known_trip_count":{"n":"5"}}\n  %reduced = f32[4]{0} get-tuple-element(%again), index=1',
  )
  (payload,) = payloads(LOOP.replace(body, inner + outer))
  assert payload.times == 3 * 5


@pytest.mark.parametrize(
  ("old", "new"),
  [
    ("direction=LT", "direction=NE"),
    ("%limit = s32[] constant(3)", "%limit = s32[] get-tuple-element(%state.1), index=0"),
    ("%zero = s32[] constant(0)", "%zero = s32[] constant(1)"),
    ("%zero = s32[] constant(0)", "%zero = s32[] custom-call()"),
  ],
)
def test_a_loop_of_unknown_length_is_an_error(old, new):
  assert old in LOOP
  with pytest.raises(ValueError, match="loop loop contains collectives, but its number of iterations is unknown"):
    payloads(LOOP.replace(old, new))


def test_a_loop_of_unknown_length_without_collectives_is_skipped():
  local = LOOP.replace("all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add", "negate(%x)")
  assert payloads(local.replace("direction=LT", "direction=NE")) == []


def test_all_branches_count():
  branch = ADD.replace("%add (", "%left (").replace("f32[] add(%a, %b)", "f32[] all-reduce(%a), replica_groups={}")
  text = _entry(
    "%i = s32[] constant(0)",
    "%c = f32[] conditional(%i, %p, %p), branch_computations={%left, %add, %left}",
    "ROOT %o = f32[8,2]{1,0} copy(%p)",
  ).replace("\nENTRY", f"{branch}\nENTRY")
  assert [payload.bytes for payload in payloads(text)] == [4]


@pytest.mark.parametrize(
  ("groups", "size"),
  [
    ("{{0},{1}}", None),
    ("[8,1]<=[8]", None),
    ("mesh['axis_0'=8,'axis_1'=1] {'axis_1'}", None),
    ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", 4),
    ("mesh['axis_0'=1,'axis_1'=4,'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_1'}", 4),
    ("mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}", 8),
    ("{{0,2},{1,3}}", 2),
    ("[2,4]<=[4,2]T(1,0)", 4),
    ("{}", None),
  ],
)
def test_groups_of_one_device_move_nothing(groups, size):
  text = _entry(f"ROOT %r = f32[8,2]{{1,0}} all-reduce(%p), replica_groups={groups}, to_apply=%add")
  found = [payload.group for payload in payloads(text)]
  assert found == ([size] if size or groups == "{}" else [])


def test_text_without_a_program_is_an_error():
  with pytest.raises(ValueError, match="no ENTRY computation"):
    payloads("all-reduce")
