/** What a trace as a whole tells: counts, and what they say of the hardware and of who unmaps lazily. */

export class TraceFindings {
  nrMapEvents = 0;
  nrUnmapEvents = 0;
  nrDmaEvents = 0;
  /** Commands of any kind, and those that reach pages of a domain or a whole domain. */
  nrCommands = 0;
  nrPageCommands = 0;
  nrDomainCommands = 0;
  /** Page-selective commands that reach no page of a call in their context. */
  nrUseless = 0;
  nrAttached = 0;
  /** VT-d context invalidations of one device under domain id 0: only hardware with caching mode needs them. */
  nrNotPresentContexts = 0;
  /** Map calls, those with a command, and mappings made before their domain was attached. */
  nrMapCalls = 0;
  nrFlushedMaps = 0;
  /** Unmap calls with a command. */
  nrFlushedUnmaps = 0;
  /** Domain flushes that no attachment explains. */
  nrLazyFlushes = 0;
  isAmd = false;
  /** Time of the last event. */
  endNs = 0;
  /** Events were lost, or lines could not be read. */
  hasGap = false;

  readonly #strictUnmaps = new Map<number, { count: number; last: number }>();
  readonly #lazyFlushes = new Map<number, number>();

  gap(): void {
    this.hasGap = true;
  }

  mapCall(isFlushed: boolean, isDirect: boolean): void {
    if (isDirect) return;
    this.nrMapCalls += 1;
    if (isFlushed) this.nrFlushedMaps += 1;
  }

  /** An unmap with commands of its own. @param isPages they name pages: no queue of unmaps does that */
  flushedUnmap(domain: number, record: number, isPages: boolean): void {
    this.nrFlushedUnmaps += 1;
    if (!isPages) return;
    const strict = this.#strictUnmaps.get(domain);
    if (strict === undefined) this.#strictUnmaps.set(domain, { count: 1, last: record });
    else {
      strict.count += 1;
      strict.last = Math.max(strict.last, record);
    }
  }

  lazyFlush(domain: number): void {
    this.nrLazyFlushes += 1;
    this.#lazyFlushes.set(domain, (this.#lazyFlushes.get(domain) ?? 0) + 1);
  }

  /** Unmaps of a domain with page-selective commands. */
  strictUnmaps(domain: number): number {
    return this.#strictUnmaps.get(domain)?.count ?? 0;
  }

  /** Number of the last record of such an unmap, -1 for none. */
  lastStrict(domain: number): number {
    return this.#strictUnmaps.get(domain)?.last ?? -1;
  }

  lazyFlushes(domain: number): number {
    return this.#lazyFlushes.get(domain) ?? 0;
  }

  /** Whether the driver flushes not-present entries: on, off, or null when nothing tells. */
  get cachingMode(): boolean | null {
    if (this.nrNotPresentContexts > 0) return true;
    if (this.nrFlushedMaps * 2 > this.nrMapCalls) return true;
    return !this.isAmd && this.nrAttached > 0 && this.nrCommands > 0 ? false : null;
  }
}
