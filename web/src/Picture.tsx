import { type FormEvent, useEffect, useMemo, useRef, useState } from "react";
import * as api from "./api";
import type { Recipe } from "./recipe";
import { seconds } from "./state";

/** A job of the server, or a picture of the person's that was dropped, pasted or opened. */
export interface Shown {
  job?: api.Job;
  file?: File;
  recipe?: Recipe | null;
}

interface Props {
  shown: Shown | null;
  readers: api.Model[];
  onFile: (file: File | undefined) => void;
  onRestore: (recipe: Recipe) => void;
  onEnded: () => void;
}

export function Picture({ shown, readers, onFile, onRestore, onEnded }: Props) {
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
          <img src={source} alt={words} className={source === preview ? "preview" : ""} />
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
      <Details shown={shown} onRestore={onRestore} onOpen={() => opener.current?.click()} />
    </>
  );
}

interface Said {
  asked: string;
  answer?: api.Answer;
  problem?: string;
}

const TASKS: [api.Task, string][] = [
  ["caption", "Caption"],
  ["detailed_caption", "Describe"],
  ["ocr", "Read"],
];

const bytesOf = (url: string): Promise<Blob> => fetch(url).then((answer) => answer.blob());

interface ReadingProps {
  file: File | undefined;
  source: string;
  readers: api.Model[];
}

function Reading({ file, source, readers }: ReadingProps) {
  const [said, setSaid] = useState<Said[]>([]);
  const [question, setQuestion] = useState("");
  if ((!file && !source) || readers.length === 0) return null;
  const ask = async (task: api.Task, name: string, words = "") => {
    const entry: Said = { asked: words || name };
    setSaid((all) => [entry, ...all]);
    let heard: Partial<Said>;
    try {
      const picture: Blob = file ? file : await bytesOf(source);
      heard = { answer: await api.read(picture, task, words) };
    } catch (error) {
      heard = { problem: (error as Error).message };
    }
    setSaid((all) => all.map((one) => (one === entry ? { ...one, ...heard } : one)));
  };
  const send = (event: FormEvent) => {
    event.preventDefault();
    if (!question.trim()) return;
    void ask("vqa", "", question.trim());
    setQuestion("");
  };
  return (
    <section className="reading" aria-label="Reading">
      <div className="row">
        {TASKS.map(([task, name]) => (
          <button key={task} onClick={() => void ask(task, name)}>
            {name}
          </button>
        ))}
        <form className="joined grow" onSubmit={send}>
          <input
            aria-label="A question about the picture"
            placeholder="Ask about it"
            value={question}
            onChange={(event) => setQuestion(event.target.value)}
          />
          <button>Ask</button>
        </form>
      </div>
      <dl aria-live="polite">
        {said.map((one, at) => (
          <div key={said.length - at}>
            <dt>{one.asked}</dt>
            <dd className={one.problem ? "warn" : ""}>
              {one.problem ?? (one.answer ? one.answer.caption || "nothing" : "…")}
              {one.answer?.confidence != null && (
                <span className="note"> {Math.round(one.answer.confidence * 100)} %</span>
              )}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Details({
  shown,
  onRestore,
  onOpen,
}: {
  shown: Shown | null;
  onRestore: (recipe: Recipe) => void;
  onOpen: () => void;
}) {
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
      <dl>
        {facts
          .filter(([, value]) => value !== undefined && value !== "")
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
      <div className="row">
        <button onClick={onOpen}>Open a picture</button>
        {recipe && <button onClick={() => onRestore(recipe)}>Use this recipe</button>}
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
