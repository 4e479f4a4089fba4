/**
 * Execution contexts of a trace as small numbers. What one context does happens in program order, so the maps of one map_sg
 * are neighbours within it, whatever other CPUs and interrupts put between them in the file.
 */
export class Contexts {
  #keys: Float64Array = new Float64Array(256).fill(NaN);
  #ids: Int32Array = new Int32Array(256);
  #count = 0;
  #lastKey = NaN;
  #lastId = -1;

  get count(): number {
    return this.#count;
  }

  /**
   * The number of a context: a task and how deep it is interrupted. Every CPU has an idle task with pid 0, so there the CPU
   * counts instead.
   */
  idOf(pid: number, cpu: number, irqContext: number): number {
    const key = (pid === 0 ? -1 - cpu : pid) * 4 + irqContext;
    if (key === this.#lastKey) return this.#lastId;
    const mask = this.#keys.length - 1;
    let slot = Math.imul(key, 0x9e3779b1) & mask;
    while (this.#keys[slot] !== key) {
      // NaN marks an empty slot: it equals nothing, itself included.
      if (Number.isNaN(this.#keys[slot])) {
        this.#keys[slot] = key;
        this.#ids[slot] = this.#count++;
        if (this.#count * 2 > this.#keys.length) {
          this.#grow();
          return this.idOf(pid, cpu, irqContext);
        }
        break;
      }
      slot = (slot + 1) & mask;
    }
    this.#lastKey = key;
    this.#lastId = this.#ids[slot];
    return this.#lastId;
  }

  #grow(): void {
    const keys = this.#keys;
    const ids = this.#ids;
    this.#keys = new Float64Array(keys.length * 2).fill(NaN);
    this.#ids = new Int32Array(keys.length * 2);
    const mask = this.#keys.length - 1;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      if (Number.isNaN(key)) continue;
      let slot = Math.imul(key, 0x9e3779b1) & mask;
      while (!Number.isNaN(this.#keys[slot])) slot = (slot + 1) & mask;
      this.#keys[slot] = key;
      this.#ids[slot] = ids[i];
    }
  }
}
