/** VT-d invalidation descriptors (specification rev. 4.1, 6.5.2) as a replay counts and compares them. */
import { fromWords } from '../base/index.ts';
import { vtd } from '../spec/index.ts';
import type { CommandSet, PageCommand } from './commands.ts';
import { CommandKind } from './commands.ts';

/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  DESC_CONTEXT,
  DESC_DID_SHIFT,
  DESC_GRANULARITY_SHIFT,
  DESC_IOTLB,
  DESC_WAIT,
  GRANULARITY_DOMAIN,
  GRANULARITY_PAGE,
  IOTLB_DESC_AM_MASK_W2,
  IOTLB_DESC_IH_W2,
  SS_ADDR_MASK_HI,
} = vtd;

const { page: PAGE, domain: DOMAIN, global: GLOBAL, context: CONTEXT, wait: WAIT, other: OTHER } = CommandKind;

/** A key is page number * 128 + AM * 2 + IH. */
const KEYS_PER_PAGE = 128;

export const VTD_COMMANDS: CommandSet = {
  model: 'vtd',
  keysPerPage: KEYS_PER_PAGE,

  kindOf(w0: number): CommandKind {
    const type = w0 & 0xf;
    if (type === DESC_IOTLB) {
      const granularity = (w0 >>> DESC_GRANULARITY_SHIFT) & 3;
      if (granularity === GRANULARITY_PAGE) return PAGE;
      return granularity === GRANULARITY_DOMAIN ? DOMAIN : GLOBAL;
    }
    if (type === DESC_CONTEXT) return CONTEXT;
    return type === DESC_WAIT ? WAIT : OTHER;
  },

  pageKey(w2: number, w3: number): number {
    const page = fromWords(w2, w3 & SS_ADDR_MASK_HI) / 4096;
    return Math.floor(page) * KEYS_PER_PAGE + (w2 & IOTLB_DESC_AM_MASK_W2) * 2 + ((w2 & IOTLB_DESC_IH_W2) >>> 6);
  },

  pageDomain(w0: number): number {
    return w0 >>> DESC_DID_SHIFT;
  },

  describe(key: number): PageCommand {
    const low = key % KEYS_PER_PAGE;
    const page = (key - low) / KEYS_PER_PAGE;
    return { iova: `0x${(page * 4096).toString(16)}`, am: low >> 1, ih: (low & 1) === 1 };
  },

  // The hardware masks address bits below AM (6.5.2.3).
  firstPage(key: number): number {
    const page = Math.floor(key / KEYS_PER_PAGE);
    return page - (page % this.nrPages(key));
  },

  nrPages(key: number): number {
    return 2 ** ((key % KEYS_PER_PAGE) >> 1);
  },
};
