/**
 * The report file: the viewer that `npm run build` leaves in dist/web/report.html, with its data inside. It opens from disk and
 * may not reach any network (its content security policy). Nothing in the data can end the element that carries it, or be read
 * as HTML: names of tasks, devices and files come from strangers.
 */
import type { LabData } from './lab-data.ts';
import { LAB_DATA_ID } from './lab-data.ts';

/** Where the data goes: before every script, so that the policy holds for all. */
const PLACE = '<meta charset="utf-8" />';
const TITLE = /<title>[^<]*<\/title>/;

/**
 * @param title of the page, any text
 * @param scriptHashes of the viewer's own inline scripts, as the policy names them (`sha256-...`): no other may run
 * @throws RangeError for what is no viewer
 */
export function htmlReport(viewer: string, data: LabData, title: string, scriptHashes: readonly string[]): string {
  if (!viewer.includes(PLACE) || !TITLE.test(viewer)) throw new RangeError('this is not the page of a report');
  const scripts = scriptHashes.map((hash) => `'${hash}'`).join(' ');
  const policy = `default-src 'none'; script-src ${scripts === '' ? "'none'" : scripts}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'`;
  const head = `${PLACE}
    <meta http-equiv="Content-Security-Policy" content="${policy}" />
    <script type="application/json" id="${LAB_DATA_ID}">${scriptJson(data)}</script>`;
  // Functions as replacements: `$&` in data must not be read as a pattern.
  return viewer.replace(TITLE, () => `<title>${escaped(title)}</title>`).replace(PLACE, () => head);
}

/** JSON without a character that HTML or an old JavaScript parser could take for its own. */
function scriptJson(data: LabData): string {
  return JSON.stringify(data).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function escaped(text: string): string {
  return text.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
