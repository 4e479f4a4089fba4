/** Bugs 19 and 26: attach and detach. */
import type { AmdDevice } from '../../drivers/index.ts';
import { AmdIommu, ContextTables, Invalidator, invalidateDevtabEntry } from '../../drivers/index.ts';
import { vtd } from '../../spec/index.ts';
import type { StageSetup } from '../setup.ts';
import { DEVICES } from '../stage.ts';
import { amdDriver, intelDriver } from './drivers.ts';
import { IOVA, KiB4, MEMORY, run } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { story, tested } from './mutant.ts';
import { amdRig, must } from './rig.ts';

const RW = 3;
const READ = 1;
const INTEL: StageSetup = { arch: 'intel', caller: 'core', npCache: false };
const AMD: StageSetup = { arch: 'amd', caller: 'core', npCache: false };
/** What requests of the first device are turned into by its bridge: no device of a stage. */
const ALIAS = 0x00e0;

/** An attach returns when its flush is queued. */
class AttachUnwaited extends AmdIommu {
  protected override finishAttach(_member: AmdDevice): number {
    return 0;
  }
}

/** Entries that were present are invalidated under id 0, that of absent ones. */
class ContextUnderZero extends Invalidator {
  override context(granularity: number, did: number, sid: number): number {
    return super.context(granularity, granularity === vtd.GRANULARITY_DEVICE ? 0 : did, sid);
  }
}

/** An entry stays present until the next domain is written over it: between two stores it is half of each. */
class NeverClears extends ContextTables {
  override clear(_sid: number): void {}
}

/** For each id of a device, the invalidation of the device's own. */
class FlushesOwnId extends AmdIommu {
  protected override flushEntries(member: AmdDevice): number {
    let errno = 0;
    for (const _sid of member.sids) {
      errno = errno === 0 ? invalidateDevtabEntry(member.unit.queue, member.device.sid) : errno;
    }
    return errno;
  }
}

export const ATTACH_MUTANTS: readonly Mutant[] = [
  {
    id: '19',
    title: 'an attach does not wait for its flush',
    source: 'list mail 4bc58d1662',
    kind: 'contract',
    contract: 'C-ATTACH',
    scenario: story('19', 'a device is attached to a domain that has a page', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.attach(DEVICES[0]), 'attach');
    }),
    mutant: { ...AMD, makeDriver: amdDriver({ driver: AttachUnwaited }) },
    twin: AMD,
  },
  {
    id: '26a',
    title: 'a context entry is invalidated under the wrong domain id',
    source: 'list mail 6e6759d71a',
    kind: 'contract',
    contract: 'C-ATTACH',
    scenario: story('26a', 'a device moves from one domain to another', (stage) => {
      const [one, other] = [stage.coreSpace(), stage.coreSpace()];
      stage.must(one.map(IOVA, run(1)), 'map');
      stage.must(other.map(IOVA, run(1, MEMORY + 8 * KiB4)), 'map in the other');
      stage.must(one.attach(DEVICES[0]), 'attach');
      stage.must(other.attach(DEVICES[0]), 'attach to the other');
    }),
    mutant: { ...INTEL, makeDriver: intelDriver({ parts: { Invalidator: ContextUnderZero } }) },
    twin: INTEL,
  },
  {
    id: '26b',
    title: 'a context entry is rewritten while it is present',
    source: '"Clear Present bit before tearing down context entry"',
    kind: 'contract',
    contract: 'C-ATTACH',
    scenario: story('26b', 'a device moves from one domain to another', (stage) => {
      const [one, other] = [stage.coreSpace(), stage.coreSpace()];
      stage.must(one.map(IOVA, run(1)), 'map');
      stage.must(other.map(IOVA, run(1, MEMORY + 8 * KiB4)), 'map in the other');
      stage.must(one.attach(DEVICES[0]), 'attach');
      stage.must(other.attach(DEVICES[0]), 'attach to the other');
    }),
    mutant: { ...INTEL, makeDriver: intelDriver({ parts: { ContextTables: NeverClears } }) },
    twin: INTEL,
  },
  tested(
    {
      id: '26c',
      title: 'the entry of an alias is flushed under the id of its device',
      source: 'change logs of context flushing for aliases',
    },
    'requests under an alias reach the new domain',
    amdDriver({ driver: FlushesOwnId, aliasOf: (sid) => (sid === DEVICES[1].sid ? ALIAS : sid) }),
    amdDriver({ aliasOf: (sid) => (sid === DEVICES[1].sid ? ALIAS : sid) }),
    (makeDriver) => {
      const { machine, domain } = amdRig(makeDriver);
      must(machine.core.map(domain, IOVA, MEMORY, KiB4, RW));
      // The closed entry is cached by a request before the attach.
      if (machine.unit.translate(ALIAS, IOVA, READ) >= 0) return 'the alias reached something before';
      must(machine.driver.probeDevice(DEVICES[1]));
      must(machine.driver.attachDev(domain, DEVICES[1]));
      return machine.unit.translate(ALIAS, IOVA, READ) === MEMORY ? '' : 'they still find the closed entry';
    },
  ),
];
