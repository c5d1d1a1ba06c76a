import { type KeyboardEvent, useEffect, useMemo, useState } from "react";
import * as api from "./api";
import { type Settings, unknownWords } from "./state";

interface Props {
  models: api.Model[];
  prompt: string;
  setPrompt: (text: string) => void;
  settings: Settings;
  setSettings: (settings: Settings) => void;
  seedOf: number | undefined;
  onPainted: (id: string) => void;
}

const dice = () => Math.floor(Math.random() * 2 ** 31);

export function Words({ models, prompt, setPrompt, settings, setSettings, seedOf, onPainted }: Props) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const model = models.find((one) => one.id === settings.model) ?? models[0];
  const set = (change: Partial<Settings>) => setSettings({ ...settings, ...change });
  const odd = useMemo(() => unknownWords(prompt, model), [prompt, model]);
  const [side, setSide] = useState<[number, number]>([0, 0]);
  useEffect(() => {
    if (model) setSide([settings.width || model.width || 0, settings.height || model.height || 0]);
  }, [model, settings.width, settings.height]);

  const ready = model !== undefined && prompt.trim() !== "" && odd.length === 0;

  const paint = async () => {
    if (!model || !ready || busy) return;
    setBusy(true);
    setProblem("");
    const seed = settings.seed === "" ? dice() : Number(settings.seed);
    try {
      // Picture i has seed + i, and is the same when it is asked for alone.
      for (let i = 0; i < settings.count; i++) {
        const job = await api.paint({
          model: model.id,
          prompt: prompt.trim(),
          negative_prompt: settings.negative.trim(),
          width: side[0],
          height: side[1],
          num_inference_steps: settings.steps || model.steps || 20,
          guidance_scale: settings.guidance || model.guidance_scale || 1,
          seed: seed + i,
          ...(settings.solver ? { solver: settings.solver } : {}),
        });
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
        <div>
          <label htmlFor="count">Pictures</label>
          <input
            id="count"
            type="number"
            min={1}
            max={16}
            value={settings.count}
            onChange={(event) => set({ count: Math.max(1, Math.min(16, Number(event.target.value) || 1)) })}
          />
        </div>
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
          <div>
            <label htmlFor="steps">Steps</label>
            <input
              id="steps"
              type="number"
              min={1}
              max={model?.most_steps ?? 200}
              value={settings.steps || model?.steps || ""}
              onChange={(event) => set({ steps: Number(event.target.value) })}
            />
          </div>
          <div>
            <label htmlFor="guidance">Guidance</label>
            <input
              id="guidance"
              type="number"
              min={0}
              max={30}
              step={0.5}
              value={settings.guidance || model?.guidance_scale || ""}
              onChange={(event) => set({ guidance: Number(event.target.value) })}
            />
          </div>
        </div>
        {model && (model.multiple ?? 0) < (model.most_side ?? 0) && (
          <div className="row">
            {(["width", "height"] as const).map((name, at) => (
              <div key={name}>
                <label htmlFor={name}>{name === "width" ? "Width" : "Height"}</label>
                <input
                  id={name}
                  type="number"
                  min={model.multiple}
                  max={model.most_side}
                  step={model.multiple}
                  value={side[at]}
                  onChange={(event) => set({ [name]: Number(event.target.value) })}
                />
              </div>
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
      <button className="main" disabled={!ready || busy}>
        {busy ? "Asking" : "Paint"}
      </button>
      <p role="alert" className="note warn">
        {problem}
      </p>
    </form>
  );
}
