/** Devices that come, go, and change domains. */
import type { Scenario } from '../scenario.ts';
import { DEVICES } from '../stage.ts';
import { IOVA, KiB4, MEMORY, MiB2, run } from './places.ts';

const [FIRST, SECOND, FAR] = DEVICES;

export const ATTACH_SCENARIOS: readonly Scenario[] = [
  {
    name: 'attach/detach',
    title: 'a detached device reaches nothing',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(FIRST), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      space.detach(FIRST);
    },
  },
  {
    name: 'attach/again',
    title: 'a device leaves and comes back',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(FIRST), 'attach');
      space.detach(FIRST);
      stage.must(space.attach(FIRST), 'second attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      space.detach(FIRST);
    },
  },
  {
    name: 'attach/other-space',
    title: 'a device moves to another space that has another page at the same address',
    small: true,
    run(stage) {
      const [one, other] = [stage.space(), stage.space()];
      stage.must(one.attach(FIRST), 'attach');
      stage.must(one.map(IOVA, run(1)), 'map');
      one.detach(FIRST);
      stage.must(other.attach(FIRST), 'attach to the other');
      stage.must(other.map(IOVA, run(1, MEMORY + MiB2)), 'map in the other');
      other.detach(FIRST);
    },
  },
  {
    name: 'attach/replace',
    title: 'a device moves without a detach between',
    small: true,
    callers: ['core', 'iommufd'],
    run(stage) {
      const [one, other] = [stage.space(), stage.space()];
      stage.must(one.attach(FIRST), 'attach');
      stage.must(one.map(IOVA, run(1)), 'map');
      stage.must(other.map(IOVA, run(1, MEMORY + MiB2)), 'map in the other');
      stage.must(other.attach(FIRST), 'replace');
      stage.must(one.attach(FIRST), 'replace back');
      one.detach(FIRST);
    },
  },
  {
    name: 'attach/id-again',
    title: 'a domain is freed, the next one gets its id',
    small: true,
    callers: ['core'],
    run(stage) {
      const one = stage.coreSpace();
      stage.must(one.attach(FIRST), 'attach');
      stage.must(one.map(IOVA, run(1)), 'map');
      one.detach(FIRST);
      one.free();
      const other = stage.coreSpace();
      stage.must(other.attach(FIRST), 'attach to the next domain');
      stage.must(other.map(IOVA, run(1, MEMORY + MiB2)), 'map in it');
      stage.must(other.unmap(IOVA, KiB4), 'unmap in it');
      other.detach(FIRST);
    },
  },
  {
    name: 'attach/two-devices',
    title: 'two devices in one space; one leaves, the other goes on',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(FIRST), 'attach');
      stage.must(space.attach(SECOND), 'attach of the second');
      stage.must(space.map(IOVA, run(1)), 'map');
      space.detach(FIRST);
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    },
  },
  {
    name: 'attach/two-spaces',
    title: 'two devices with spaces of their own do not see each other',
    small: true,
    run(stage) {
      const [one, other] = [stage.space(), stage.space()];
      stage.must(one.attach(FIRST), 'attach');
      stage.must(other.attach(SECOND), 'attach of the second');
      stage.must(one.map(IOVA, run(1)), 'map in the first');
      stage.must(other.map(IOVA, run(1, MEMORY + MiB2)), 'map in the second');
      stage.must(one.unmap(IOVA, KiB4), 'unmap in the first');
    },
  },
  {
    name: 'attach/other-bus',
    title: 'the first device of another bus: its context entries lie in a table that did not exist',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(FIRST), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.attach(FAR), 'attach on the other bus');
      space.detach(FAR);
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    },
  },
  {
    name: 'attach/new-kernel',
    title: 'another kernel takes over; the unit may still hold what it cached for the one before',
    small: true,
    arch: 'intel',
    callers: ['core'],
    run(stage) {
      const before = stage.coreSpace();
      stage.must(before.attach(FIRST), 'attach');
      stage.must(before.map(IOVA, run(1)), 'map');
      stage.takeOver();
      const space = stage.coreSpace();
      stage.must(space.attach(FIRST), 'attach by the new kernel');
      stage.must(space.map(IOVA, run(1, MEMORY + MiB2)), 'map by the new kernel');
      stage.must(space.unmap(IOVA, KiB4), 'unmap by the new kernel');
      space.detach(FIRST);
    },
  },
  {
    name: 'attach/three-devices',
    title: 'three devices come and go between maps',
    small: false,
    run(stage) {
      const space = stage.space();
      for (const [index, device] of DEVICES.entries()) {
        stage.must(space.attach(device), `attach of ${device.name}`);
        stage.must(space.map(IOVA + index * MiB2, run(2, MEMORY + index * MiB2)), 'map');
      }
      for (const [index, device] of DEVICES.entries()) {
        stage.must(space.unmap(IOVA + index * MiB2, 2 * KiB4), 'unmap');
        space.detach(device);
      }
    },
  },
];
