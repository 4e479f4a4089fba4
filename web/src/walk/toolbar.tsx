/** The machine of the walk view, part by part. Each change plays the same steps on the new machine. */
import type { JSX } from 'preact';
import { ARCHES, CALLERS, PRESETS_OF } from '../../../src/check/index.ts';
import { MAP_FLUSHES, UNMAP_FLUSHES } from '../../../src/drivers/index.ts';
import type { LabConfig } from '../../../src/lab/index.ts';
import { change, reconfigure } from './state.ts';
import type { WalkAnswer } from './walk-jobs.ts';
import { CALLER_WORDS, POLICY_WORDS, UNMAP_WORDS } from './words.ts';

function Choice<T extends string>({
  label,
  value,
  options,
  words,
  onChoose,
}: {
  readonly label: string;
  readonly value: T;
  readonly options: readonly T[];
  readonly words: (option: T) => string;
  readonly onChoose: (option: T) => void;
}): JSX.Element {
  const id = `machine-${label.toLowerCase().replaceAll(/\W+/g, '-')}`;
  return (
    <div class="choice">
      <label for={id}>{label}</label>
      <select
        id={id}
        value={value}
        onChange={(event) => {
          const chosen = options.find((option) => option === event.currentTarget.value);
          if (chosen !== undefined) onChoose(chosen);
        }}
      >
        {options.map((option) => (
          <option key={option} value={option}>
            {words(option)}
          </option>
        ))}
      </select>
    </div>
  );
}

export function Toolbar({ answer }: { readonly answer: WalkAnswer }): JSX.Element {
  const { state, scenarios } = answer;
  const { config, scenario } = state.program;
  const chosen = scenarios.find(({ name }) => name === scenario);
  return (
    <fieldset class="toolbar">
      <legend>The machine</legend>
      <Choice
        label="Vendor"
        value={config.arch}
        options={ARCHES}
        words={(arch) => (arch === 'intel' ? 'Intel VT-d' : 'AMD-Vi')}
        onChoose={(arch) => {
          // A kernel that only the other vendor has, or a scenario, gives way.
          const preset = PRESETS_OF[arch].find((name) => name === config.preset) ?? 'linux-6.12';
          toMachine({ arch, preset });
        }}
      />
      <Choice
        label={config.arch === 'intel' ? 'Caching mode' : 'NpCache'}
        value={config.npCache ? 'on' : 'off'}
        options={['on', 'off']}
        words={(on) => (on === 'on' ? 'on: may cache “not present”' : 'off')}
        onChoose={(on) => reconfigure({ npCache: on === 'on' })}
      />
      <Choice
        label="Flush after a map"
        value={config.mapFlush}
        options={MAP_FLUSHES}
        words={(policy) => `${policy}: ${POLICY_WORDS[policy]}`}
        onChoose={(mapFlush) => reconfigure({ mapFlush })}
      />
      <Choice
        label="Flush after an unmap"
        value={config.unmapFlush}
        options={UNMAP_FLUSHES}
        words={(policy) => UNMAP_WORDS[policy]}
        onChoose={(unmapFlush) => toMachine({ unmapFlush })}
      />
      <Choice
        label="Caller"
        value={config.caller}
        options={CALLERS}
        words={(caller) => CALLER_WORDS[caller]}
        onChoose={(caller) => toMachine({ caller })}
      />
      <Choice
        label="Kernel"
        value={config.preset}
        options={PRESETS_OF[config.arch]}
        words={(preset) => preset}
        onChoose={(preset) => reconfigure({ preset })}
      />
      <Choice
        label="Program"
        value={scenario}
        options={['', ...scenarios.map(({ name }) => name)]}
        words={(name) => (name === '' ? 'my own steps' : `scenario ${name}`)}
        onChoose={(name) =>
          change((from) => ({
            ...from,
            // The first call, so that there is something to see; the others are one button away.
            program: { ...from.program, scenario: name, actions: name === '' ? [] : [{ do: 'call' }] },
            step: name === '' ? 0 : 1,
          }))
        }
      />
      {chosen === undefined ? null : (
        <p class="quiet">
          {chosen.title}: {chosen.nrCalls} calls
        </p>
      )}
    </fieldset>
  );
}

/** A machine that the scenario may not go with: then the program begins anew. */
function toMachine(config: Partial<LabConfig>): void {
  change((state) => {
    const { program } = state;
    const next = { ...program, config: { ...program.config, ...config } };
    if (program.scenario === '') return { ...state, program: next };
    return { ...state, program: { ...next, scenario: '', actions: [] }, step: 0 };
  });
}
