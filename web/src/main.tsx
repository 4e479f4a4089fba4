/** The lab page: what `iommukit ui` serves and dist/web holds. */
import { render } from 'preact';
import { followAddress } from './address.ts';
import { Shell } from './shell/shell.tsx';
import './shell/theme.css';

const root = document.querySelector('#app');
if (root === null) throw new Error('the page has no #app');
followAddress();
render(<Shell />, root);
