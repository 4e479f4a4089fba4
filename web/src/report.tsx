/** A report that opens from disk: the lab's views over data that the page itself carries (src/report/lab-data.ts). */
import { render } from 'preact';
import './shell/theme.css';

const root = document.querySelector('#app');
if (root === null) throw new Error('the page has no #app');
render(<main />, root);
