import { describe, expect, it } from 'vitest';
import { EBUSY, EINVAL, EIO, ENODEV, ENOMEM } from '../../src/base/index.ts';
import { Iommu, IommuGroup, mapDirectRegions, mergeResvRegions, softwareMsiBase } from '../../src/iommu/index.ts';
import type { Device, ResvRegion } from '../../src/iommu/index.ts';
import { Recorder } from './recorder.ts';

const region = (start: number, nrBytes: number, type: ResvRegion['type'] = 'reserved', prot = 0): ResvRegion => ({
  start,
  nrBytes,
  type,
  prot,
});
const brief = (regions: readonly ResvRegion[]): string[] =>
  regions.map((one) => `${one.type} ${one.start.toString(16)}+${one.nrBytes.toString(16)} ${one.prot}`);

function setup(...names: string[]) {
  const ops = new Recorder();
  const core = new Iommu();
  core.tracer = ops;
  const group = new IommuGroup(core, ops, 7);
  const devices: Device[] = names.map((name, index) => ({ name, sid: index }));
  for (const device of devices) expect(group.addDevice(device)).toBe(0);
  ops.log.length = 0;
  return { ops, core, group, devices, said: () => ops.log.splice(0) };
}

describe('replace (iommu_group_replace_domain)', () => {
  it('takes every device straight over, and all back when one is refused', () => {
    const t = setup('a', 'b', 'c');
    t.group.setupDefaultDomain('paging');
    const owner = {};
    t.group.claimDma(owner);
    const [one, two] = [t.ops.domain(), t.ops.domain()];
    expect(t.group.replace(two)).toBe(EINVAL);
    t.group.attach(one);
    t.said();
    expect([t.group.replace(two), t.group.domain]).toEqual([0, two]);
    // No detach between: no moment without a domain.
    expect(t.said().filter((line) => !line.startsWith('event'))).toEqual(['attachDev a', 'attachDev b', 'attachDev c']);
    t.ops.fail.set('attach c', EBUSY);
    expect([t.group.replace(one), t.group.domain]).toEqual([EBUSY, two]);
    expect(t.said().filter((line) => !line.startsWith('event'))).toEqual([
      'attachDev a',
      'attachDev b',
      'attachDev c fails',
      'attachDev b',
      'attachDev a',
    ]);
    expect([...t.ops.attached.values()]).toEqual([two, two, two]);
  });

  it('blocks a device that can go neither on nor back: it must not stay where its user was refused', () => {
    const t = setup('a', 'b');
    const [one, two] = [t.ops.domain(), t.ops.domain()];
    t.group.claimDma({});
    t.group.attach(one);
    t.ops.fail.set('attach b', EIO);
    const attach = t.ops.attachDev.bind(t.ops);
    t.ops.attachDev = (domain, device) => (device.name === 'a' && domain === one ? EIO : attach(domain, device));
    expect(t.group.replace(two)).toBe(EIO);
    expect([...t.ops.attached]).toEqual([['b', one]]);
  });

  it('is for users, and for domains of the same driver', () => {
    const t = setup('a');
    t.group.setupDefaultDomain('paging');
    expect(t.group.replace(t.ops.domain())).toBe(EINVAL);
    t.group.claimDma({});
    t.group.attach(t.ops.domain());
    expect(t.group.replace(new Recorder().domain())).toBe(EINVAL);
  });
});

describe('reserved regions', () => {
  it('of every type: what is mapped, what bars users, where doorbells go', () => {
    const t = setup('a');
    const relaxable = region(0x1000, 0x1000, 'direct-relaxable', 3);
    t.ops.regions.set('a', [relaxable, region(0x8000000, 0x100000, 'software-msi')]);
    t.group.setupDefaultDomain('paging');
    expect(t.core.iovaToPhys(t.group.defaultDomain!, 0x1800)).toBe(0x1800);
    expect(t.group.claimDma({})).toBe(0);
    expect(softwareMsiBase(t.ops.getResvRegions(t.devices[0]))).toBe(0x8000000);
    expect(softwareMsiBase([region(0xfee00000, 0x100000, 'msi'), region(0x8000000, 0x100000, 'software-msi')])).toBe(
      -1,
    );
    expect(softwareMsiBase([relaxable])).toBe(-1);
    const strict = setup('b');
    strict.ops.regions.set('b', [region(0x1000, 0x1000, 'direct', 3)]);
    expect(strict.group.claimDma({})).toBe(EINVAL);
  });

  it('are sorted, and joined per type when they overlap or touch', () => {
    expect(
      brief(
        mergeResvRegions([
          region(0xfee00000, 0x100000, 'msi'),
          region(0x3000, 0x1000),
          region(0x1000, 0x1000),
          region(0x2000, 0x1000),
          region(0x5000, 0x1000),
          region(0x1800, 0x100, 'direct', 1),
          region(0x1880, 0x100, 'direct', 2),
          region(0x9000, 0),
          region(0xfee00000, 0x100000, 'msi'),
        ]),
      ),
    ).toEqual(['reserved 1000+3000 0', 'direct 1800+180 3', 'reserved 5000+1000 0', 'msi fee00000+100000 0']);
  });

  it('keep their place under a region of another type, and are found past it', () => {
    expect(brief(mergeResvRegions([region(0, 0x9000), region(0x1000, 0x1000, 'msi'), region(0x8000, 0x2000)]))).toEqual(
      ['reserved 0+a000 0', 'msi 1000+1000 0'],
    );
  });

  it('direct ones are mapped one to one, rounded outwards, only where nothing is mapped', () => {
    const t = setup();
    const domain = t.ops.domain();
    t.core.map(domain, 0x3000, 0x3000, 0x1000, 3);
    t.said();
    const regions = [region(0x1800, 0x3000, 'direct', 3), region(0x8000, 0x1000, 'msi')];
    expect(mapDirectRegions(t.core, domain, regions)).toBe(0);
    expect(t.said().filter((line) => line.startsWith('event'))).toEqual([
      'event map 1000 1000 2000',
      'event map 4000 4000 1000',
    ]);
    expect(mapDirectRegions(t.core, domain, regions)).toBe(0);
    expect(t.said()).toEqual([]);
    t.ops.fail.set('map 20000', ENOMEM);
    expect(mapDirectRegions(t.core, domain, [region(0x20000, 1, 'direct', 3)])).toBe(ENOMEM);
    expect(mapDirectRegions(t.core, t.ops.domain(0, 'identity'), regions)).toBe(0);
  });
});

describe('groups', () => {
  it("move as a whole: default domain, a user's domain, back", () => {
    const t = setup('a', 'b');
    expect(t.group.setupDefaultDomain('paging')).toBe(0);
    expect(t.said()).toEqual(['attachDev a', 'event attach a', 'attachDev b', 'event attach b']);
    expect(t.group.setupDefaultDomain('paging')).toBe(EBUSY);
    const own = t.ops.domain();
    expect(t.group.attach(own)).toBe(0);
    expect([...t.ops.attached.values()]).toEqual([own, own]);
    expect(t.group.attach(t.ops.domain())).toBe(EBUSY);
    expect(t.group.attach(own)).toBe(EBUSY);
    expect(t.group.attach(new Recorder().domain())).toBe(EINVAL);
    expect(t.group.detach(t.ops.domain())).toBe(EINVAL);
    expect(t.group.detach(own)).toBe(0);
    expect(t.group.domain).toBe(t.group.defaultDomain);
    expect([...t.ops.attached.values()]).toEqual([t.group.defaultDomain, t.group.defaultDomain]);
  });

  it('go back in reverse when one member cannot follow', () => {
    const t = setup('a', 'b', 'c');
    t.group.setupDefaultDomain('paging');
    t.said();
    t.ops.fail.set('attach c', EIO);
    expect(t.group.attach(t.ops.domain())).toBe(EIO);
    expect(t.said().filter((line) => line.startsWith('attachDev'))).toEqual([
      'attachDev a',
      'attachDev b',
      'attachDev c fails',
      'attachDev b',
      'attachDev a',
    ]);
    expect(t.group.domain).toBe(t.group.defaultDomain);
    expect(new Set(t.ops.attached.values())).toEqual(new Set([t.group.defaultDomain]));
  });

  it('block a member that can neither follow nor go back', () => {
    const t = setup('a', 'b');
    t.group.setupDefaultDomain('paging');
    const own = t.ops.domain();
    t.ops.fail.set('attach b', EIO);
    const attach = t.ops.attachDev.bind(t.ops);
    t.ops.attachDev = (domain, device) => (device.name === 'a' && domain !== own ? EIO : attach(domain, device));
    expect(t.group.attach(own)).toBe(EIO);
    expect(t.ops.attached.has('a')).toBe(false);
  });

  it('roll back to blocked DMA when there was no domain', () => {
    const t = setup('a', 'b');
    t.ops.fail.set('attach b', EIO);
    expect(t.group.setupDefaultDomain('paging')).toBe(EIO);
    expect(t.said()).toEqual(['attachDev a', 'event attach a', 'attachDev b fails', 'detachDev a']);
    expect(t.ops.nrDomains).toBe(0);
    t.ops.fail.set('alloc', 0);
    expect(t.group.setupDefaultDomain('paging')).toBe(ENOMEM);
  });

  it('map direct regions before the first device is attached', () => {
    const t = setup('a', 'b');
    t.ops.regions.set('b', [region(0x7000, 0x2000, 'direct', 3)]);
    expect(t.group.setupDefaultDomain('paging')).toBe(0);
    const log = t.said();
    expect(log.indexOf('syncMap 7000+2000')).toBeLessThan(log.indexOf('attachDev a'));
    expect(log).toContain('map 7000>7000 2x1000');
    // A latecomer brings its own.
    const late = { name: 'c', sid: 9 };
    t.ops.regions.set('c', [region(0x8000, 0x3000, 'direct', 3)]);
    expect(t.group.addDevice(late)).toBe(0);
    expect(t.said()).toEqual([
      'map 9000>9000 2x1000',
      'event map 9000 9000 2000',
      'syncMap 9000+2000',
      'attachDev c',
      'event attach c',
      'event add 7 c',
    ]);
  });

  it('take devices in and let them out', () => {
    const t = setup('a');
    t.group.setupDefaultDomain('paging');
    t.said();
    const [a] = t.devices as [Device];
    expect(t.group.addDevice(a)).toBe(EBUSY);
    t.ops.fail.set('probe x', ENODEV);
    expect(t.group.addDevice({ name: 'x', sid: 5 })).toBe(ENODEV);
    t.ops.fail.set('attach y', EIO);
    expect(t.group.addDevice({ name: 'y', sid: 6 })).toBe(EIO);
    expect(t.said()).toEqual(['attachDev y fails', 'release y']);
    expect(() => t.group.destroy()).toThrow();
    expect(t.group.removeDevice(a)).toBe(0);
    expect(t.said()).toEqual(['detachDev a', 'release a', 'event remove 7 a']);
    expect(t.group.removeDevice(a)).toBe(EINVAL);
    t.group.destroy();
    expect(t.ops.nrDomains).toBe(0);
  });

  it('belong to one owner at a time, and DMA is blocked until he attaches', () => {
    const t = setup('a');
    t.group.setupDefaultDomain('paging');
    const vfio = {};
    expect(t.group.claimDma(vfio)).toBe(0);
    expect(t.group.isClaimed).toBe(true);
    expect(t.ops.attached.size).toBe(0);
    expect(t.group.claimDma({})).toBe(EBUSY);
    expect(t.group.claimDma(vfio)).toBe(0);
    const own = t.ops.domain();
    expect(t.group.attach(own)).toBe(0);
    expect(t.group.detach(own)).toBe(0);
    expect(t.ops.attached.size).toBe(0);
    expect(t.group.releaseDma(vfio)).toBe(0);
    expect(t.ops.attached.size).toBe(0);
    expect(t.group.releaseDma(vfio)).toBe(0);
    expect(t.group.isClaimed).toBe(false);
    expect(t.ops.attached.get('a')).toBe(t.group.defaultDomain);
    expect(() => t.group.releaseDma(vfio)).toThrow();
  });

  it('are not given away while a device needs direct regions', () => {
    const t = setup('a');
    t.ops.regions.set('a', [region(0, 0x1000, 'direct', 3)]);
    t.group.setupDefaultDomain('paging');
    expect(t.group.claimDma({})).toBe(EINVAL);
    expect(t.ops.attached.size).toBe(1);
  });
});
