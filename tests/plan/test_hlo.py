# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A compiled program's text is read as it runs: loops as often as they go round, collectives with their mesh axes."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lmx.parallel.mesh import make_mesh
from lmx.plan.hlo import Module, array_bytes, group_axes, read_program

MESH = {"data": 2, "fsdp": 2, "tensor": 2}
LAYERS = 5
# What a TPU compiler writes, shortened: a loop of 7 with a fused matmul, a kernel, and a gather in two fusions.
TPU = """HloModule jit_step, is_scheduled=true

%fused.1 (p: bf16[8,16], q: bf16[16,4]) -> bf16[8,4] {
  %p = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %q = bf16[16,4]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.1 = bf16[8,4]{1,0:T(8,128)(2,1)} convolution(%p, %q), dim_labels=bf_io->bf
}

%fused.2 (p.1: bf16[8,4]) -> bf16[8,4] {
  %p.1 = bf16[8,4]{1,0} parameter(0)
  %all-gather.7 = bf16[16,4]{1,0} all-gather(%p.1), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={0}
  ROOT %add.1 = bf16[8,4]{1,0} add(%p.1, %p.1)
}

%cond (s: (s32[], bf16[8,4])) -> pred[] {
  %s = (s32[], bf16[8,4]) parameter(0)
  %constant.1 = s32[]{:T(128)} constant(7)
  %i = s32[]{:T(128)} get-tuple-element(%s), index=0
  ROOT %lt = pred[] compare(%i, %constant.1), direction=LT
}

%body (t: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %t = (s32[], bf16[8,4]) parameter(0)
  %x = bf16[8,4]{1,0:T(8,128)(2,1)} get-tuple-element(%t), index=1
  %fusion.1 = bf16[8,4]{1,0} fusion(%x, %x), kind=kOutput, calls=%fused.1, backend_config={"estimated_cycles":"100"}
  %fusion.2 = bf16[8,4]{1,0} fusion(%fusion.1), kind=kLoop, calls=%fused.2, backend_config={"estimated_cycles":"30"}
  %fusion.3 = bf16[8,4]{1,0} fusion(%fusion.2), kind=kLoop, calls=%fused.2, backend_config={"estimated_cycles":"30"}
  %flash.2 = bf16[8,4]{1,0} custom-call(%fusion.3), custom_call_target="tpu_custom_call"
  ROOT %tuple = (s32[], bf16[8,4]) tuple(%x, %flash.2)
}

ENTRY %main (a: bf16[8,4]) -> bf16[8,4] {
  %a = bf16[8,4]{1,0} parameter(0)
  %while.1 = (s32[], bf16[8,4]) while(%a), condition=%cond, body=%body
  %copy.1 = bf16[8,4]{1,0:T(8,128)S(1)} copy(%a), backend_config={"estimated_cycles":"11"}
  ROOT %all-reduce.1 = f32[3]{0} all-reduce(%copy.1), channel_id=9, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
}
"""

# The same of an array that comes from the host's memory, while a loop of 2 puts slices of what it computes there.
OFFLOADED = """HloModule jit_step, is_scheduled=true

%fused.1 (p: bf16[8,16], q: bf16[16,4]) -> bf16[8,4] {
  %p = bf16[8,16]{1,0} parameter(0)
  %q = bf16[16,4]{1,0} parameter(1)
  ROOT %convolution.1 = bf16[8,4]{1,0} convolution(%p, %q), dim_labels=bf_io->bf
}

%cond (s: (s32[], bf16[2,8])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(2)
  ROOT %lt = pred[] compare(%i, %constant.1), direction=LT
}

%body (t: (s32[], bf16[2,8])) -> (s32[], bf16[2,8]) {
  %kept = bf16[2,8]{1,0:T(8,128)S(5)} get-tuple-element(%t), index=1
  %new = bf16[1,8]{1,0} get-tuple-element(%t), index=2
  %dynamic-update-slice-start = ((bf16[2,8]{1,0:T(8,128)S(5)}, bf16[1,8]{1,0}, s32[]{:T(128)}), bf16[2,8]{1,0:S(5)}, u32[]{:S(2)}) dynamic-update-slice-start(%kept, %new, %i)
  %fusion.1 = bf16[8,4]{1,0} fusion(%x, %x), kind=kOutput, calls=%fused.1, backend_config={"estimated_cycles":"100"}
  %dynamic-update-slice-done = bf16[2,8]{1,0:T(8,128)S(5)} dynamic-update-slice-done(%dynamic-update-slice-start), x={}
  ROOT %tuple = (s32[], bf16[2,8]) tuple(%x, %flash.2)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0:T(128)S(5)} parameter(0)
  %copy-start = (f32[4]{0:T(128)}, f32[4]{0:T(128)S(5)}, u32[]{:S(2)}) copy-start(%a)
  %copy-start.1 = (f32[4]{0:T(128)S(1)}, f32[4]{0:T(128)}, u32[]{:S(2)}) copy-start(%b)
  %copy.1 = bf16[8,4]{1,0:T(8,128)S(1)} copy(%b), backend_config={"estimated_cycles":"11"}
  %while.1 = (s32[], bf16[2,8]{1,0:S(5)}) while(%a), condition=%cond, body=%body
  %copy-done.1 = f32[4]{0:T(128)} copy-done(%copy-start.1)
  %copy-done = f32[4]{0:T(128)} copy-done(%copy-start)
  %copy-start.2 = (f32[4]{0:T(128)S(5)}, f32[4]{0:T(128)}, u32[]{:S(2)}) copy-start(%copy-done)
  ROOT %copy-done.2 = f32[4]{0:T(128)S(5)} copy-done(%copy-start.2)
}
"""  # noqa: E501

# The same of a program for one of two slices: what goes to the other is sent and received by the host.
_MEGASCALE = 'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"'
_REDUCE = f'{_MEGASCALE},_xla_host_transfer_rendezvous="a_0",_xla_megascale_transfer_type="ALL_REDUCE"}}'
_GATHER = f'{_MEGASCALE},_xla_host_transfer_rendezvous="b_0",_xla_megascale_transfer_type="ALL_GATHER"}}'
SLICES = f"""HloModule jit_step, is_scheduled=true

%fused.1 (p: bf16[8,16], q: bf16[16,4]) -> bf16[8,4] {{
  %p = bf16[8,16]{{1,0}} parameter(0)
  ROOT %convolution.1 = bf16[8,4]{{1,0}} convolution(%p, %p), dim_labels=bf_io->bf
}}

ENTRY %main (a: f32[4]) -> f32[4] {{
  %a = f32[4]{{0:T(128)}} parameter(0)
  %recv.1 = (bf16[8,4]{{1,0}}, u32[], token[]) recv(%after-all.1), channel_id=1, {_REDUCE}
  %send.1 = (bf16[8,4]{{1,0}}, u32[], token[]) send(%x, %after-all.1), channel_id=2, {_REDUCE}
  %send.2 = (bf16[4,4]{{1,0}}, u32[], token[]) send(%y, %after-all.2), channel_id=4, {_GATHER}
  %recv.2 = (bf16[8,4]{{1,0}}, u32[], token[]) recv(%after-all.2), channel_id=3, {_GATHER}
  %send-done.2 = token[] send-done(%send.2), channel_id=4, {_MEGASCALE}}}
  %recv-done.2 = (bf16[8,4]{{1,0}}, token[]) recv-done(%recv.2), channel_id=3, {_MEGASCALE}}}
  %fusion.1 = bf16[8,4]{{1,0}} fusion(%x, %x), kind=kOutput, calls=%fused.1, backend_config={{"estimated_cycles":"100"}}
  %recv-done.1 = (bf16[8,4]{{1,0}}, token[]) recv-done(%recv.1), channel_id=1, {_MEGASCALE}}}
  ROOT %all-reduce.1 = f32[3]{{0}} all-reduce(%a), channel_id=9, replica_groups={{}}, to_apply=%add
}}
"""


# A collective that the SparseCore does while the TensorCore multiplies, and one that is waited for at once.
SPARSE = """HloModule jit_step, is_scheduled=true

%fused.1 (p: bf16[8,16], q: bf16[16,4]) -> bf16[8,4] {
  %p = bf16[8,16]{1,0} parameter(0)
  ROOT %convolution.1 = bf16[8,4]{1,0} convolution(%p, %p), dim_labels=bf_io->bf
}

%called.1 (x: bf16[8,4]) -> bf16[16,4] {
  %x = bf16[8,4]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[16,4]{1,0} all-gather(%x), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}
}, execution_thread="sparsecore"

%called.2 (y: bf16[16,4]) -> bf16[8,4] {
  %y = bf16[16,4]{1,0} parameter(0)
  ROOT %reduce-scatter.1 = bf16[8,4]{1,0} reduce-scatter(%y), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
}, execution_thread="sparsecore"

ENTRY %main (a: bf16[8,4]) -> bf16[8,4] {
  %a = bf16[8,4]{1,0} parameter(0)
  %gather.call-start = ((), (), (s32[1])) call-start(), async_execution_thread="sparsecore", to_apply=%called.1
  %gather.call-update = ((bf16[8,4]{1,0}), bf16[16,4]{1,0}) call-update(%gather.call-start, %a)
  %fusion.1 = bf16[8,4]{1,0} fusion(%a, %a), kind=kOutput, calls=%fused.1, backend_config={"estimated_cycles":"100"}
  %gather.call-done = bf16[16,4]{1,0} call-done(%gather.call-update)
  %scatter.call-start = ((), (), (s32[1])) call-start(), async_execution_thread="sparsecore", to_apply=%called.2
  %scatter.call-update = ((bf16[16,4]{1,0}), bf16[8,4]{1,0}) call-update(%scatter.call-start, %gather.call-done)
  ROOT %scatter.call-done = bf16[8,4]{1,0} call-done(%scatter.call-update)
}
"""  # noqa: E501


def test_what_sparse_cores_send_is_found_and_whether_it_is_waited_for():
  gathered, scattered = sorted(read_program(SPARSE, MESH).collectives, key=lambda one: one.kind)
  assert (gathered.kind, gathered.axes, gathered.count, gathered.overlapped) == ("all-gather", ("tensor",), 1, True)
  assert (scattered.kind, scattered.overlapped) == ("reduce-scatter", False)
  assert gathered.bytes == scattered.bytes == 16 * 4 * 2  # Of the whole array, before it is scattered too.


def test_loops_count_as_often_as_they_go_round():
  program = read_program(TPU, MESH)
  assert (program.matmul_cycles, program.other_cycles) == (700, 7 * 60 + 11)
  assert program.kernels == {"flash": 7}


def test_a_collective_that_runs_along_with_two_fusions_is_one():
  gathered, reduced = sorted(read_program(TPU, MESH).collectives, key=lambda one: one.kind)
  assert (gathered.kind, gathered.count, gathered.bytes, gathered.overlapped) == ("all-gather", 7, 16 * 4 * 2, True)
  assert gathered.axes == ("tensor",)
  assert (reduced.kind, reduced.count, reduced.bytes, reduced.overlapped) == ("all-reduce", 1, 12, False)
  assert reduced.axes == ("data", "fsdp", "tensor")


@pytest.mark.parametrize(
  ("groups", "axes"),
  [
    ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", ("tensor",)),
    ("replica_groups={{0,2},{1,3}}", ("fsdp",)),
    ("replica_groups=[4,2]<=[2,2,2]T(1,2,0)", ("data",)),
    ("replica_groups=[2,4]<=[8]", ("fsdp", "tensor")),
    ("replica_groups=[1,8]<=[8]", ("data", "fsdp", "tensor")),
    ("replica_groups=mesh['x'=2,'y'=4] {'x'}", ("data",)),
    ("source_target_pairs={{0,2},{2,0}}", ("fsdp",)),
  ],
)
def test_groups_of_devices_are_named_by_their_mesh_axes(groups, axes):
  assert group_axes(groups, MESH) == axes


def test_bytes_of_shapes_are_those_of_all_their_arrays():
  assert array_bytes("(bf16[2,3]{1,0}, f32[4]{0:T(128)S(1)}, pred[])") == 12 + 16 + 1


def test_a_program_of_this_machine_is_read():
  mesh = make_mesh(MESH)
  split = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), "tensor"))
  weights = NamedSharding(mesh, PartitionSpec(None, "tensor", None))

  @jax.jit
  def f(x, w):
    y, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)
    return jnp.sum(y)

  x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=split)
  w = jax.ShapeDtypeStruct((LAYERS, 16, 16), jnp.float32, sharding=weights)
  text = f.lower(x, w).compile().as_text()
  program = read_program(text, MESH)
  assert [(one.count, one.axes) for one in program.collectives if one.count == LAYERS] == [(LAYERS, ("tensor",))]
  assert Module(text).entry


def test_copies_from_and_to_the_hosts_memory_are_in_the_order_of_the_program():
  events = read_program(OFFLOADED, MESH).links
  assert [(one.journey, one.begins, one.bytes, one.link) for one in events] == [
    (1, True, 16, "from host"),
    *[(2, True, 16, "to host"), (2, False, 16, "to host"), (3, True, 16, "to host"), (3, False, 16, "to host")],
    (1, False, 16, "from host"),
    *[(4, True, 16, "to host"), (4, False, 16, "to host")],
  ]
  assert [(one.matmul_cycles, one.other_cycles) for one in events] == [
    *[(0, 0), (0, 11), (100, 0), (0, 0), (100, 0)],
    *[(0, 0)] * 3,
  ]
  assert not read_program(TPU, MESH).links


def test_what_slices_exchange_is_counted_apart_from_what_travels_within_one():
  program = read_program(SLICES, {"slice": 2, "data": 4})
  assert [(one.journey, one.begins, one.bytes, one.link, one.matmul_cycles) for one in program.links] == [
    (1, True, 64, "slices", 0),
    (2, True, 64, "slices", 0),
    (2, False, 64, "slices", 0),
    (1, False, 64, "slices", 100),
  ]
  found = {(one.kind, one.axes): (one.count, one.bytes, one.overlapped) for one in program.collectives}
  assert found == {
    ("all-reduce", ("data",)): (1, 12, False),  # Its groups number the devices of one slice.
    ("all-reduce", ("slice",)): (1, 64, True),
    ("all-gather", ("slice",)): (1, 64, False),
  }


def test_collectives_that_share_a_channel_are_counted_each():
  ragged = "bf16[8,4]{1,0} ragged-all-to-all(%a, %a), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}"
  lines = "".join(f"  %ragged.{number} = {ragged}\n" for number in range(3))  # As shard_map writes them.
  program = read_program(TPU.replace("  %copy.1 =", f"{lines}  %copy.1 ="), MESH)
  assert [one.count for one in program.collectives if one.kind == "ragged-all-to-all"] == [3]


def test_a_ragged_exchange_moves_what_is_sent_and_not_the_room_for_it():
  there = "bf16[32,4]{1,0} ragged-all-to-all(%copy.1, %room), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}"
  back = "bf16[8,4]{1,0} ragged-all-to-all(%ragged.1, %a), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}"
  lines = f"  %ragged.1 = {there}\n  %ragged.2 = {back}\n"
  program = read_program(TPU.replace("  ROOT %all-reduce.1", f"{lines}  ROOT %all-reduce.1"), MESH)
  (found,) = [one for one in program.collectives if one.kind == "ragged-all-to-all"]
  assert (found.count, found.bytes) == (2, 8 * 4 * 2)


def test_products_of_experts_in_kernels_are_counted_by_their_shapes():
  target = 'custom_call_target="tpu_custom_call"'
  lines = f"""
  %kernels.1 = bf16[3,16,4]{{2,1,0}} parameter(1)
  %rows.1 = bf16[8,16]{{1,0}} parameter(2)
  %ragged-dot-metadata = (s32[9]{{0}}, s32[1]{{0}}) custom-call(%a), {target}
  %ragged-dot-none.3 = bf16[8,4]{{1,0}} custom-call(%ragged-dot-metadata, %rows.1, %kernels.1), {target}
  %tgmm = bf16[3,16,4]{{2,1,0}} custom-call(%ragged-dot-metadata, %rows.1, %ragged-dot-none.3), {target}
"""
  program = read_program(TPU.replace("  ROOT %all-reduce.1", f"{lines}  ROOT %all-reduce.1"), MESH)
  assert program.grouped_flops == 2 * 2 * 8 * 16 * 4
  assert program.kernels["tgmm"] == program.kernels["ragged-dot-none"] == 1
  assert read_program(TPU, MESH).grouped_flops == 0
