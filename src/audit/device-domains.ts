/**
 * Which domain a device uses, as the commands of its calls tell. A device keeps its domain from one attachment to the next, so
 * that a command for another domain stands out against the rest.
 */
import { DOMAINS_PER_UNIT } from './command.ts';

interface Attachment {
  readonly device: number;
  /** How often each domain was named for it. */
  readonly votes: Map<number, number>;
  /** Domain id that the kernel says it assigned (cache_tag_assign), -1 for none. It names no unit. */
  assigned: number;
  /** Domain that was flushed when it was attached, -1 for none. */
  attached: number;
  domain: number;
}

export class DeviceDomains {
  readonly #attachments: Attachment[] = [];
  readonly #current = new Map<number, number>();
  /** Units that were told of a domain id. */
  readonly #unitsOf = new Map<number, Set<number>>();

  /** A new attachment of a device. @param device its number in Names @returns the number of the attachment */
  attach(device: number, attached: number, assigned: number): number {
    const number = this.#attachments.length;
    this.#attachments.push({ device, votes: new Map(), attached, assigned, domain: -1 });
    this.#current.set(device, number);
    return number;
  }

  /** The present attachment of a device. */
  of(device: number): number {
    return this.#current.get(device) ?? this.attach(device, -1, -1);
  }

  /** The device of an attachment. */
  device(attachment: number): number {
    return this.#attachments[attachment]?.device ?? -1;
  }

  /** A call of the device was flushed under this domain. */
  vote(attachment: number, domain: number): void {
    const votes = this.#attachments[attachment]?.votes;
    votes?.set(domain, (votes.get(domain) ?? 0) + 1);
  }

  /** Some command named this domain. */
  sawDomain(domain: number): void {
    const id = domain % DOMAINS_PER_UNIT;
    const units = this.#unitsOf.get(id) ?? new Set();
    units.add((domain - id) / DOMAINS_PER_UNIT);
    this.#unitsOf.set(id, units);
  }

  /** All is read: settles what `domain` answers. */
  finish(): void {
    for (const attachment of this.#attachments) {
      const { votes, assigned, attached } = attachment;
      if (attached >= 0) votes.set(attached, (votes.get(attached) ?? 0) + 1);
      const [unit, ...others] = assigned < 0 ? [] : (this.#unitsOf.get(assigned) ?? []);
      if (unit !== undefined && others.length === 0) {
        const domain = unit * DOMAINS_PER_UNIT + assigned;
        votes.set(domain, (votes.get(domain) ?? 0) + 1.5);
      }
      let most = 0;
      for (const [domain, count] of votes) {
        if (count <= most) continue;
        most = count;
        attachment.domain = domain;
      }
    }
  }

  /** The domain of an attachment, -1 when nothing tells. After `finish`. */
  domain(attachment: number): number {
    return attachment < 0 ? -1 : (this.#attachments[attachment]?.domain ?? -1);
  }

  /** The numbers of the attachments, from 0. */
  get count(): number {
    return this.#attachments.length;
  }
}
