// The public API, and nothing else, as far as the page uses it.

export interface Model {
  id: string;
  does: "paint" | "read" | "embed";
  width?: number;
  height?: number;
  multiple?: number;
  most_side?: number;
  most_steps?: number;
  steps?: number;
  guidance_scale?: number;
  solvers?: string[];
  words?: string[];
  examples?: string[];
  chats?: boolean;
  begins_from_pictures?: boolean;
}

export type Status = "queued" | "running" | "complete" | "failed" | "canceled";

export interface Request {
  model: string;
  prompt: string;
  negative_prompt: string;
  width?: number;
  height?: number;
  num_inference_steps: number;
  guidance_scale: number;
  seed: number;
  solver?: string | null;
  image?: string; // base64: what it begins from
  strength?: number;
}

/** What a job was asked for, as the server says it back. */
export interface Asked {
  prompt: string;
  negative_prompt: string;
  width: number;
  height: number;
  steps: number;
  guidance: number;
  solver: string | null;
  seed: number;
}

export interface Job {
  job_id: string;
  kind: string;
  model: string;
  status: Status;
  held: boolean;
  starred: boolean;
  rating: number;
  step: number;
  steps: number;
  created_at: number;
  eta_seconds: number | null;
  generation_time: number | null;
  image_url: string | null;
  request: Partial<Asked>;
  error: { code: string; detail: string } | null;
}

export interface Answer {
  caption: string;
  confidence: number | null;
  score: number;
  processing_time: number;
}

export type Task = "caption" | "detailed_caption" | "vqa" | "ocr";

/** What the server says of a mistake (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title);
  }
}

async function call<T>(path: string, init: RequestInit = {}): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...init });
  } catch {
    throw new Problem(0, "No connection", "The server does not answer. It is asked again.");
  }
  const body: unknown = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) {
    const said = (body ?? {}) as { title?: string; detail?: string };
    throw new Problem(answer.status, said.title ?? `Error ${answer.status}`, said.detail ?? "");
  }
  return body as T;
}

function post<T>(
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
  method = "POST",
): Promise<T> {
  return call<T>(path, {
    method,
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
}

export const models = () => call<{ data: Model[] }>("/v1/models").then((said) => said.data);

export const jobs = (limit = 100) =>
  call<{ jobs: Job[] }>(`/v1/jobs?limit=${limit}`).then((said) => said.jobs.map(here));

/** Addresses of pictures are absolute, for programs; the page may know the server by another. */
function here(job: Job): Job {
  if (!job.image_url) return job;
  const { pathname, search } = new URL(job.image_url, location.href);
  return { ...job, image_url: pathname + search };
}

/** The key makes a retry safe: the same key is never two pictures. */
export const paint = (request: Request) =>
  post<{ job_id: string }>("/v1/generate", request, { "Idempotency-Key": crypto.randomUUID() });

/** Up to 64 pictures, all or none; their jobs in order. */
export const batch = (requests: Request[]) =>
  post<{ jobs: { job_id: string }[] }>("/v1/batches", { requests }, {
    "Idempotency-Key": crypto.randomUUID(),
  }).then((said) => said.jobs.map((job) => job.job_id));

export const act = (id: string, verb: "cancel" | "hold" | "release" | "undo") =>
  post<unknown>(`/v1/jobs/${id}/${verb}`, {});

export const move = (id: string, to: number) => post<unknown>(`/v1/jobs/${id}/move`, { index: to });

export const paused = () => call<{ paused: boolean }>("/v1/queue").then((said) => said.paused);

export const pause = (stop: boolean) =>
  post<unknown>(`/v1/queue/${stop ? "pause" : "resume"}`, {});

export const star = (id: string, starred: boolean) =>
  post<unknown>(`/v1/jobs/${id}/star`, { starred }, {}, "PUT");

export const rate = (id: string, rating: number) =>
  post<unknown>(`/v1/jobs/${id}/rating`, { value: rating }, {}, "PUT");

export const remove = (id: string) => call<unknown>(`/v1/jobs/${id}`, { method: "DELETE" });

export const session = () => call<{ role: "user" | "admin" }>("/v1/session");

/** A line of what Prometheus reads. */
export interface Figure {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export async function figures(): Promise<Figure[]> {
  const answer = await fetch("/metrics", { credentials: "same-origin" });
  if (!answer.ok) throw new Problem(answer.status, `Error ${answer.status}`, "");
  const found: Figure[] = [];
  for (const line of (await answer.text()).split("\n")) {
    const parts = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!parts) continue;
    const pairs = [...(parts[2] ?? "").matchAll(/([a-z_]+)="([^"]*)"/g)];
    const labels = Object.fromEntries(pairs.map((pair) => [pair[1], pair[2]]));
    found.push({ name: parts[1] ?? "", labels, value: Number(parts[3]) });
  }
  return found;
}

export const signIn = (key: string) => post<unknown>("/v1/session", { key });

/** A picture of the server by its URL, or one of the person's by its bytes. */
export async function read(picture: Blob, task: Task, question: string, model: string): Promise<Answer> {
  const form = new FormData();
  form.append("image", picture, "picture");
  form.append("task", task);
  form.append("model", model);
  if (question) form.append("question", question);
  return call<Answer>("/v1/caption", { method: "POST", body: form });
}

/** The bytes in base64, as JSON takes them. */
export async function base64Of(picture: Blob): Promise<string> {
  const bytes = new Uint8Array(await picture.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000)
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

/** A talk about a picture, the person's turns and the model's in turns; `heard` gets the answer as
 * far as it has come. */
export async function chat(
  picture: Blob,
  turns: string[],
  model: string,
  heard: (text: string) => void,
): Promise<void> {
  const kind = picture.type || "image/png";
  const url = `data:${kind};base64,${await base64Of(picture)}`;
  const messages = turns.map((text, at) => ({
    role: at % 2 === 0 ? "user" : "assistant",
    content: at === 0 ? [{ type: "image_url", image_url: { url } }, { type: "text", text }] : text,
  }));
  const answer = await fetch("/v1/chat/completions", {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model, messages, stream: true }),
  });
  if (!answer.ok || !answer.body) {
    const said = (await answer.json().catch(() => ({}))) as { title?: string; detail?: string };
    throw new Problem(answer.status, said.title ?? `Error ${answer.status}`, said.detail ?? "");
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return heard(text);
    const lines = (waiting + value).split("\n");
    waiting = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const said = JSON.parse(line.slice(6));
      if (said.error) throw new Problem(500, said.error.message, said.error.message);
      text += said.choices?.[0]?.delta?.content ?? "";
      heard(text);
    }
  }
}

/** Listens to one job: its steps, its previews (PNG in base64), and once its end, whatever it is. */
export function listen(
  id: string,
  stepped: (said: { step: number; steps: number }) => void,
  previewed: (png: string) => void,
  ended: () => void,
): () => void {
  const source = new EventSource(`/v1/jobs/${id}/events`);
  const close = () => {
    source.close();
    ended();
  };
  const said = (event: Event) => JSON.parse((event as MessageEvent<string>).data);
  source.addEventListener("step", (event) => stepped(said(event)));
  source.addEventListener("preview", (event) => previewed(said(event).png));
  for (const kind of ["complete", "failed", "canceled"]) source.addEventListener(kind, close);
  return () => source.close();
}
