/** What a search looks at. */
export interface Target {
  /** Requester ids of the devices. */
  readonly sids: readonly number[];
  /** Pages whose promises are judged, and whose IOTLB entries are part of a state. */
  readonly pages: readonly number[];
  /** Pages that are walked for too, for the sake of the tables on the way. */
  readonly beside: readonly number[];
}
