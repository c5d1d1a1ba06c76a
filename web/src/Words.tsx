import { type KeyboardEvent, useMemo, useState } from "react";
import * as api from "./api";
import { GridForm, type Sheet } from "./Grid";
import { type Settings, unknownWords } from "./state";

interface Props {
  models: api.Model[];
  prompt: string;
  setPrompt: (text: string) => void;
  settings: Settings;
  setSettings: (settings: Settings) => void;
  seedOf: number | undefined;
  begin: Begin | null;
  onNoise: () => void;
  onPainted: (id: string) => void;
  onSheet: (sheet: Sheet) => void;
}

/** A picture to begin from, and an address to show it by. */
export interface Begin {
  picture: Blob;
  url: string;
}

const dice = () => Math.floor(Math.random() * 2 ** 31);

export function Words(props: Props) {
  const { models, prompt, setPrompt, settings, setSettings, seedOf, begin, onNoise, onPainted, onSheet } = props;
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const model = models.find((one) => one.id === settings.model) ?? models[0];
  const set = (change: Partial<Settings>) => setSettings({ ...settings, ...change });
  const odd = useMemo(() => unknownWords(prompt, model), [prompt, model]);
  const ready = model !== undefined && prompt.trim() !== "" && odd.length === 0;

  const request = (): api.Request | null => {
    if (!model || !ready) return null;
    const from = begin && model.begins_from_pictures;
    return {
      model: model.id,
      prompt: prompt.trim(),
      negative_prompt: settings.negative.trim(),
      // A picture to begin from has a size of its own.
      ...(from && settings.width === null && settings.height === null
        ? {}
        : { width: settings.width ?? model.width ?? 0, height: settings.height ?? model.height ?? 0 }),
      num_inference_steps: settings.steps ?? model.steps ?? 20,
      guidance_scale: settings.guidance ?? model.guidance_scale ?? 1,
      seed: settings.seed === "" ? dice() : Number(settings.seed),
      ...(settings.solver ? { solver: settings.solver } : {}),
    };
  };

  const paint = async () => {
    const first = request();
    if (!first || busy) return;
    setBusy(true);
    setProblem("");
    try {
      const from =
        begin && model?.begins_from_pictures
          ? { image: await api.base64Of(begin.picture), strength: settings.strength ?? 0.6 }
          : {};
      // Picture i has seed + i, and is the same when it is asked for alone.
      for (let i = 0; i < settings.count; i++) {
        const job = await api.paint({ ...first, ...from, seed: first.seed + i });
        if (i === 0) onPainted(job.job_id);
      }
    } catch (error) {
      setProblem((error as api.Problem).message);
    } finally {
      setBusy(false);
    }
  };

  const keys = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void paint();
    }
  };

  return (
    <form
      onKeyDown={keys}
      onSubmit={(event) => {
        event.preventDefault();
        void paint();
      }}
    >
      <label htmlFor="prompt">What to paint</label>
      <textarea
        id="prompt"
        rows={3}
        value={prompt}
        placeholder={model?.examples?.[6] ?? "a large red circle"}
        aria-describedby="prompt-note"
        aria-invalid={odd.length > 0}
        onChange={(event) => setPrompt(event.target.value)}
      />
      <p id="prompt-note" className={odd.length > 0 ? "note warn" : "note"}>
        {odd.length > 0 ? `${model?.id} does not know: ${odd.join(", ")}` : "Ctrl + Enter paints"}
      </p>
      {model?.examples?.length && prompt.trim() === "" ? (
        <ul className="examples" aria-label="Examples">
          {model.examples.slice(4, 10).map((text) => (
            <li key={text}>
              <button type="button" onClick={() => setPrompt(text)}>
                {text}
              </button>
            </li>
          ))}
        </ul>
      ) : null}
      <label htmlFor="negative">What not</label>
      <input
        id="negative"
        value={settings.negative}
        onChange={(event) => set({ negative: event.target.value })}
      />
      {begin && model?.begins_from_pictures && (
        <div className="row begin">
          <img src={begin.url} alt="It begins from this" width={56} height={56} />
          <div className="grow">
            <label htmlFor="strength">How much is painted anew</label>
            <input
              id="strength"
              type="range"
              min={0.05}
              max={1}
              step={0.05}
              value={settings.strength ?? 0.6}
              onChange={(event) => set({ strength: Number(event.target.value) })}
            />
          </div>
          <button type="button" aria-label="Begin from noise" title="Begin from noise" onClick={onNoise}>
            ×
          </button>
        </div>
      )}
      <div className="row">
        <div className="grow">
          <label htmlFor="seed">Seed</label>
          <div className="joined">
            <input
              id="seed"
              inputMode="numeric"
              placeholder="any"
              value={settings.seed}
              onChange={(event) => set({ seed: event.target.value.replace(/\D/g, "").slice(0, 15) })}
            />
            <button type="button" aria-label="Any seed" title="Any seed" onClick={() => set({ seed: "" })}>
              ⚄
            </button>
            <button
              type="button"
              aria-label="The picture's seed"
              title="The picture's seed"
              disabled={seedOf === undefined}
              onClick={() => set({ seed: String(seedOf) })}
            >
              ↺
            </button>
          </div>
        </div>
        <NumberField
          name="count"
          label="Pictures"
          least={1}
          most={16}
          value={settings.count}
          onChange={(count) => set({ count: Math.max(1, Math.min(16, count ?? 1)) })}
        />
      </div>
      <details>
        <summary>More</summary>
        {models.length > 1 && (
          <>
            <label htmlFor="model">Model</label>
            <select id="model" value={model?.id} onChange={(event) => set({ model: event.target.value })}>
              {models.map((one) => (
                <option key={one.id}>{one.id}</option>
              ))}
            </select>
          </>
        )}
        <div className="row">
          <NumberField
            name="steps"
            label="Steps"
            least={1}
            most={model?.most_steps}
            value={settings.steps ?? model?.steps}
            onChange={(steps) => set({ steps })}
          />
          <NumberField
            name="guidance"
            label="Guidance"
            least={0}
            most={30}
            step={0.5}
            value={settings.guidance ?? model?.guidance_scale}
            onChange={(guidance) => set({ guidance })}
          />
        </div>
        {model && (model.multiple ?? 0) < (model.most_side ?? 0) && (
          <div className="row">
            {(["width", "height"] as const).map((name) => (
              <NumberField
                key={name}
                name={name}
                label={name === "width" ? "Width" : "Height"}
                least={model.multiple}
                most={model.most_side}
                step={model.multiple}
                value={settings[name] ?? model[name]}
                onChange={(side) => set({ [name]: side })}
              />
            ))}
          </div>
        )}
        <label htmlFor="solver">Solver</label>
        <select
          id="solver"
          value={settings.solver}
          onChange={(event) => set({ solver: event.target.value })}
        >
          <option value="">the model's own</option>
          {(model?.solvers ?? []).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </details>
      <GridForm request={request} onSheet={onSheet} />
      <button className="main" disabled={!ready || busy}>
        {busy ? "Asking" : "Paint"}
      </button>
      <p role="alert" className="note warn">
        {problem}
      </p>
    </form>
  );
}

interface NumberProps {
  name: string;
  label: string;
  least: number | undefined;
  most: number | undefined;
  step?: number | undefined;
  value: number | undefined;
  onChange: (value: number | null) => void;
}

/** Empty stands for the model's own value. */
function NumberField({ name, label, least, most, step, value, onChange }: NumberProps) {
  return (
    <div>
      <label htmlFor={name}>{label}</label>
      <input
        id={name}
        type="number"
        min={least}
        max={most}
        step={step}
        value={value ?? ""}
        onChange={(event) => onChange(event.target.value === "" ? null : Number(event.target.value))}
      />
    </div>
  );
}
