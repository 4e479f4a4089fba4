/** Ids and who uses what: the object table of an iommufd (Linux 6.12 drivers/iommu/iommufd/main.c). */
import { EBUSY, ENOENT } from '../../base/index.ts';

export type ObjectType = 'ioas' | 'hwpt' | 'device' | 'access';

/** Something with an id. Having one means it is in the table. */
export interface FdObject {
  readonly type: ObjectType;
  /** 0 until it is in a table. */
  id: number;
  /** References by others; user space may destroy it at 0. */
  nrUsers: number;
  /** Gives back what it holds; called once, out of the table already. */
  destroy(): void;
}

export class ObjectTable {
  readonly #objects = new Map<number, FdObject>();

  get size(): number {
    return this.#objects.size;
  }

  values(): FdObject[] {
    return [...this.#objects.values()];
  }

  /** Gives an object the lowest free id from 1 on. */
  add<T extends FdObject>(object: T): T {
    let id = 1;
    while (this.#objects.has(id)) id += 1;
    object.id = id;
    this.#objects.set(id, object);
    return object;
  }

  get(id: number): FdObject | undefined {
    return this.#objects.get(id);
  }

  /** @returns 0, ENOENT, or EBUSY while somebody uses it */
  remove(id: number): number {
    const object = this.#objects.get(id);
    if (object === undefined) return ENOENT;
    if (object.nrUsers > 0) return EBUSY;
    this.#objects.delete(id);
    object.destroy();
    return 0;
  }

  /** Destroys everything, users before what they use. @throws Error when two objects use each other */
  removeAll(): void {
    while (this.#objects.size > 0) {
      const free = this.values().filter(({ nrUsers }) => nrUsers === 0);
      if (free.length === 0) throw new Error('objects of an iommufd use each other');
      for (const { id } of free) this.remove(id);
    }
  }
}
