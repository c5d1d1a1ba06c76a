import { useEffect, useMemo, useRef, useState } from "react";
import * as api from "./api";
import { Facts } from "./Facts";
import { Reading } from "./Reading";
import type { Recipe } from "./recipe";
import { Stage } from "./Stage";
import { seconds } from "./state";

/** A job of the server, or a picture of the person's that was dropped, pasted or opened. */
export interface Shown {
  job?: api.Job;
  file?: File;
  recipe?: Recipe | null;
}

interface Props {
  shown: Shown | null;
  beside: api.Job | null;
  readers: api.Model[];
  onFile: (file: File | undefined) => void;
  onRestore: (recipe: Recipe) => void;
  onBegin: ((picture: Blob) => void) | undefined;
  onAlone: () => void;
  onEnded: () => void;
}

export function Picture(props: Props) {
  const { shown, beside, readers, onFile, onRestore, onBegin, onAlone, onEnded } = props;
  const job = shown?.job;
  const [preview, setPreview] = useState("");
  const [step, setStep] = useState(0);
  const opener = useRef<HTMLInputElement>(null);
  const active = job?.status === "queued" || job?.status === "running";

  useEffect(() => {
    setPreview("");
    setStep(0);
    if (!job || !active) return;
    return api.listen(
      job.job_id,
      (said) => {
        setStep(said.step);
      },
      (png) => setPreview(`data:image/png;base64,${png}`),
      onEnded,
    );
    // Only another job begins another listening.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [job?.job_id, active]);

  const local = useMemo(() => (shown?.file ? URL.createObjectURL(shown.file) : ""), [shown?.file]);
  useEffect(() => () => URL.revokeObjectURL(local), [local]);

  const source = local || job?.image_url || preview;
  const words = shown?.file?.name ?? job?.request.prompt ?? "";
  return (
    <>
      <figure className={active ? "stage busy" : "stage"}>
        {source ? (
          <Stage
            source={source}
            words={words}
            preview={source === preview}
            beside={
              beside?.image_url && !active
                ? { source: beside.image_url, words: beside.request.prompt ?? "" }
                : null
            }
          />
        ) : (
          <button className="plain open" onClick={() => opener.current?.click()}>
            {active ? "Waiting" : "Drop, paste or open a picture"}
          </button>
        )}
        {active && job && (
          <progress aria-label="Steps" value={step || job.step} max={job.steps || 1} />
        )}
      </figure>
      <input
        ref={opener}
        type="file"
        accept="image/png,image/jpeg,image/webp,image/gif"
        hidden
        onChange={(event) => onFile(event.target.files?.[0])}
      />
      {job?.status === "failed" && (
        <p role="alert" className="note warn">
          {job.error?.detail || job.error?.code}
        </p>
      )}
      {job?.status === "canceled" && <p className="note">Canceled.</p>}
      <Reading
        key={job?.job_id ?? local}
        file={shown?.file}
        source={job?.image_url ?? ""}
        readers={readers}
      />
      <Details
        shown={shown}
        compared={beside !== null}
        onRestore={onRestore}
        onOpen={() => opener.current?.click()}
        onAlone={onAlone}
        onBegin={
          onBegin && (shown?.file || job?.image_url)
            ? async () => onBegin(shown?.file ?? (await (await fetch(source)).blob()))
            : undefined
        }
        onRated={onEnded}
      />
    </>
  );
}

interface DetailsProps {
  shown: Shown | null;
  compared: boolean;
  onRestore: (recipe: Recipe) => void;
  onOpen: () => void;
  onAlone: () => void;
  onBegin: (() => Promise<void>) | undefined;
  onRated: () => void;
}

function Details(props: DetailsProps) {
  const { shown, compared, onRestore, onOpen, onAlone, onBegin, onRated } = props;
  const request = shown?.job?.request;
  const recipe: Recipe | null =
    shown?.recipe ??
    (request?.prompt === undefined
      ? null
      : {
          prompt: request.prompt,
          negative_prompt: request.negative_prompt ?? "",
          seed: request.seed,
          steps: request.steps,
          guidance: request.guidance,
        });
  const time = shown?.job?.generation_time;
  const facts: [string, string | number | undefined][] = recipe
    ? [
        ["Prompt", recipe.prompt],
        ["Not", recipe.negative_prompt],
        ["Seed", recipe.seed],
        ["Steps", recipe.steps],
        ["Guidance", recipe.guidance],
        ["Time", time == null ? undefined : seconds(time)],
      ]
    : [];
  return (
    <div className="details">
      <Facts rows={facts} />
      <div className="row">
        <button onClick={onOpen}>Open a picture</button>
        {recipe && <button onClick={() => onRestore(recipe)}>Use this recipe</button>}
        {onBegin && <button onClick={() => void onBegin()}>Begin from it</button>}
        {compared && <button onClick={onAlone}>End the comparison</button>}
        {shown?.job?.status === "complete" && <Thumbs job={shown.job} onRated={onRated} />}
        {shown?.job && request?.prompt !== undefined && (
          <>
            <Copy name="curl" text={asCurl(shown.job)} />
            <Copy name="Python" text={asPython(shown.job)} />
          </>
        )}
        {shown?.job?.image_url && (
          <a className="button" href={shown.job.image_url} download={`${shown.job.job_id}.png`}>
            Save
          </a>
        )}
      </div>
    </div>
  );
}

function Thumbs({ job, onRated }: { job: api.Job; onRated: () => void }) {
  const rate = (value: number) =>
    void api.rate(job.job_id, job.rating === value ? 0 : value).then(onRated, () => undefined);
  return (
    <span className="thumbs">
      <button aria-label="Good" title="Good" aria-pressed={job.rating === 1} onClick={() => rate(1)}>
        ↑
      </button>
      <button aria-label="Bad" title="Bad" aria-pressed={job.rating === -1} onClick={() => rate(-1)}>
        ↓
      </button>
    </span>
  );
}

function Copy({ name, text }: { name: string; text: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    window.setTimeout(() => setDone(false), 1500);
  };
  return (
    <button onClick={() => void copy()} title={`Copy as ${name}`}>
      {done ? "Copied" : name}
    </button>
  );
}

function asCurl({ model, request }: api.Job): string {
  const body = {
    model,
    prompt: request.prompt,
    negative_prompt: request.negative_prompt,
    width: request.width,
    height: request.height,
    num_inference_steps: request.steps,
    guidance_scale: request.guidance,
    seed: request.seed,
  };
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl ${location.origin}/v1/generate -H 'Content-Type: application/json' -d '${quoted}'`;
}

function asPython({ model, request }: api.Job): string {
  const negative = request.negative_prompt
    ? ` negative_prompt=${JSON.stringify(request.negative_prompt)},`
    : "";
  return [
    "from diptych import TextToImage",
    "",
    `paint = TextToImage.load(${JSON.stringify(model)})`,
    `picture = paint(${JSON.stringify(request.prompt)},${negative} seed=${request.seed},`,
    `                steps=${request.steps}, guidance=${request.guidance})`,
  ].join("\n");
}
