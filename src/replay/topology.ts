/**
 * Devices, groups and domains as far as a trace tells them: add_device_to_group and attach_device_to_domain events, device
 * names in dma:* events. Devices of one group share one domain, as with Linux's default domains.
 */
import type { Device } from '../iommu/index.ts';

/** One address space of the trace. Having one means the trace shows it or needs it; not that a device is attached to it yet. */
export interface TraceDomain {
  readonly number: number;
  /** Devices known to use it; an invented one when the trace names none. */
  readonly devices: Device[];
  /** True when the trace does not name it: mappings made it necessary. */
  readonly inferred: boolean;
}

const PCI_NAME = /^([0-9a-f]{4,5}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/;

/** Requester id of a PCI address like `0000:00:04.0`; -1 for other names. */
export function sidOf(name: string): number {
  const match = PCI_NAME.exec(name);
  if (match === null) return -1;
  return (parseInt(match[2] ?? '', 16) << 8) | (parseInt(match[3] ?? '', 16) << 3) | parseInt(match[4] ?? '', 16);
}

export class Topology {
  readonly domains: TraceDomain[] = [];
  readonly #groupOf = new Map<string, number>();
  readonly #domainOfGroup = new Map<number | string, TraceDomain>();
  readonly #devices = new Map<string, Device>();
  readonly #taken = new Set<number>();
  #nextSid = 0xffff;

  /** iommu:add_device_to_group. */
  addToGroup(name: string, group: number): void {
    this.#groupOf.set(name, group);
  }

  /**
   * The device of a name, made on first sight. A PCI address gives its requester id; names that are none, and devices of other
   * PCI segments with an id that is taken, get a free one from the top, since all are behind one unit here.
   * @throws RangeError for more devices than a unit can tell apart
   */
  device(name: string): Device {
    let device = this.#devices.get(name);
    if (device === undefined) {
      let sid = sidOf(name);
      if (sid < 0 || this.#taken.has(sid)) {
        while (this.#taken.has(this.#nextSid)) this.#nextSid -= 1;
        if (this.#nextSid < 0) throw new RangeError('the trace names more than 65,536 devices');
        sid = this.#nextSid;
      }
      this.#taken.add(sid);
      device = { name, sid };
      this.#devices.set(name, device);
    }
    return device;
  }

  /** The domain that a device's group uses. */
  domainOf(name: string): TraceDomain {
    const group = this.#groupOf.get(name) ?? name;
    let domain = this.#domainOfGroup.get(group);
    if (domain === undefined) {
      domain = { number: this.domains.length, devices: [], inferred: false };
      this.domains.push(domain);
      this.#domainOfGroup.set(group, domain);
    }
    const device = this.device(name);
    if (!domain.devices.includes(device)) domain.devices.push(device);
    return domain;
  }

  /**
   * One more domain than the trace names, with an invented device. Its requester id is the lowest free one: an AMD-Vi device
   * table ends at the last id that firmware names, and a device beyond it could not be attached. To be called when all names
   * of the trace are known.
   */
  addInferred(): TraceDomain {
    const number = this.domains.length;
    let sid = 0;
    while (this.#taken.has(sid)) sid += 1;
    this.#taken.add(sid);
    const domain = { number, devices: [{ name: `inferred-${number}`, sid }], inferred: true };
    this.domains.push(domain);
    return domain;
  }
}
