/** Looks at a machine without changing it. */
import { DEVICES } from '../check/index.ts';
import { ACCESS_READ, ACCESS_WRITE, AmdviUnit, VtdUnit } from '../hw/index.ts';
import type { Machine } from '../machine/index.ts';
import { vtd } from '../spec/index.ts';
import { amdCaches, vtdCaches } from './caches.ts';
import { amdFault, lostFaults, vtdFault } from './faults.ts';
import { queueView } from './queue.ts';
import type { Answer, Focus, MachineView, WalkView } from './view.ts';
import { amdWalk, vtdWalk } from './walk.ts';

const PAGE = 4096;

/** The unit of a machine. @throws RangeError for another model than the two of src/hw */
export function unitOf(machine: Machine): VtdUnit | AmdviUnit {
  const { unit } = machine;
  if (unit instanceof VtdUnit || unit instanceof AmdviUnit) return unit;
  throw new RangeError('the lab shows a VtdUnit or an AmdviUnit');
}

/**
 * A machine as it is now, for the walk of one page. Nothing changes: what the unit does to answer is taken back. With work
 * waiting whose time has come (`completionDelayNs`) settle the unit before.
 */
export function machineView(machine: Machine, focus: Focus): MachineView {
  const unit = unitOf(machine);
  const { mem } = machine;
  const before = unit.snapshot();
  const walkOf = (sid: number, iova: number): WalkView =>
    unit instanceof VtdUnit ? vtdWalk(unit, mem, { sid, iova }) : amdWalk(unit, mem, { sid, iova });
  const iova = focus.iova - (focus.iova % PAGE);
  const page = { sid: focus.sid, iova };
  const walk = walkOf(page.sid, iova);
  const walks = {
    of: walkOf,
    inDomain: (domain: number, at: number): WalkView | null =>
      DEVICES.map(({ sid }) => walkOf(sid, at)).find((found) => found.domain === domain) ?? null,
  };
  const isVtd = unit instanceof VtdUnit;
  const view = {
    arch: isVtd ? ('intel' as const) : ('amd' as const),
    focus: page,
    npCache: isVtd ? (unit.read32(vtd.CAP_REG) & (1 << vtd.CAP_CM_BIT)) !== 0 : unit.config.npCache,
    walk,
    caches: isVtd ? vtdCaches(unit, page, walk.domain, walks) : amdCaches(unit, page, walk.domain, walks),
    queue: queueView(unit, mem),
    faults: isVtd ? unit.pendingFaults().map(vtdFault) : unit.pendingFaults().map(amdFault),
    lostFaults: lostFaults(unit),
    // Last, since it fills caches.
    now: answerOf(unit, page),
  };
  unit.restore(before);
  return view;
}

/** What a device would get, caches first. The unit is left changed. */
function answerOf(unit: VtdUnit | AmdviUnit, { sid, iova }: Focus): Answer {
  const read = unit.speculate(sid, iova, ACCESS_READ);
  const write = unit.speculate(sid, iova, ACCESS_WRITE);
  return { paddr: Math.max(read, write) < 0 ? -1 : Math.max(read, write), read: read >= 0, write: write >= 0 };
}
