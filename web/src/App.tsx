import { useCallback, useEffect, useMemo, useState } from "react";
import * as api from "./api";
import { Gallery } from "./Gallery";
import { GridSheet, type Sheet } from "./Grid";
import { Picture, type Shown } from "./Picture";
import { Queue } from "./Queue";
import { type Recipe, recipeOf } from "./recipe";
import { Server } from "./Server";
import { SignIn } from "./SignIn";
import { type Settings, useJobs, useKept, useModels } from "./state";
import { type Begin, Words } from "./Words";

const FRESH: Settings = {
  model: "",
  negative: "",
  steps: null,
  guidance: null,
  width: null,
  height: null,
  solver: "",
  seed: "",
  count: 1,
  strength: 0.6,
};

export function App() {
  const { jobs, problem, again } = useJobs();
  const signedOut = problem?.status === 401;
  const models = useModels(!signedOut);
  const [prompt, setPrompt] = useKept("prompt", "");
  const [settings, setSettings] = useKept<Settings>("settings", FRESH);
  const [chosen, setChosen] = useState<Shown | null>(null);
  const [awaited, setAwaited] = useState("");
  const [said, setSaid] = useState("");
  const [deleted, setDeleted] = useState<api.Job | null>(null);
  const [begin, setBegin] = useState<Begin | null>(null);
  const [compared, setCompared] = useState("");
  const [sheet, setSheet] = useKept<Sheet | null>("grid", null);

  const show = useCallback((next: Shown) => {
    setAwaited("");
    setCompared("");
    setChosen(next);
  }, []);
  const pictures = useMemo(() => jobs.filter((job) => job.kind === "paint"), [jobs]);
  const done = useMemo(
    () => pictures.filter((job) => job.status === "complete" && job.image_url),
    [pictures],
  );
  const open = useMemo(
    () => pictures.filter((job) => job.status === "queued" || job.status === "running"),
    [pictures],
  );
  // Jobs move on under what is shown: the newest word of each is the list's.
  const shown = useMemo<Shown | null>(() => {
    if (chosen?.file && !awaited) return chosen;
    const wanted = awaited || chosen?.job?.job_id;
    const job = pictures.find((one) => one.job_id === wanted);
    if (job) return { job };
    const first = open.find((one) => one.status === "running") ?? done[0];
    return first ? { job: first } : null;
  }, [awaited, chosen, pictures, open, done]);

  const restore = useCallback(
    (recipe: Recipe) => {
      setPrompt(recipe.prompt);
      setSettings({
        ...settings,
        negative: recipe.negative_prompt ?? "",
        steps: recipe.steps ?? settings.steps,
        guidance: recipe.guidance ?? settings.guidance,
        seed: recipe.seed === undefined ? "" : String(recipe.seed),
        count: 1,
      });
      setSaid("The recipe is back.");
    },
    [setPrompt, setSettings, settings],
  );

  const take = useCallback(async (file: File | undefined) => {
    if (!file?.type.startsWith("image/")) return;
    show({ file, recipe: await recipeOf(file) });
  }, [show]);

  useEffect(() => {
    const stop = (event: DragEvent) => event.preventDefault();
    const drop = (event: DragEvent) => {
      event.preventDefault();
      void take(event.dataTransfer?.files[0]);
    };
    const paste = (event: ClipboardEvent) => void take(event.clipboardData?.files[0]);
    window.addEventListener("dragover", stop);
    window.addEventListener("drop", drop);
    window.addEventListener("paste", paste);
    return () => {
      window.removeEventListener("dragover", stop);
      window.removeEventListener("drop", drop);
      window.removeEventListener("paste", paste);
    };
  }, [take]);

  const from = useCallback((picture: Blob | null) => {
    setBegin((before) => {
      if (before) URL.revokeObjectURL(before.url);
      return picture && { picture, url: URL.createObjectURL(picture) };
    });
  }, []);

  const painters = models.filter((model) => model.does === "paint");
  const remove = async (job: api.Job) => {
    await api.remove(job.job_id);
    setDeleted(job);
    again();
    window.setTimeout(() => setDeleted((now) => (now === job ? null : now)), 8000);
  };

  if (signedOut) return <SignIn onDone={again} />;
  return (
    <>
      <header>
        <h1>Diptych</h1>
        <p role="status">{problem ? problem.detail : models.length === 0 ? "The models are being loaded." : said}</p>
      </header>
      <main>
        <section className="panel words" aria-label="Words">
          <Words
            models={painters}
            prompt={prompt}
            setPrompt={setPrompt}
            settings={settings}
            setSettings={setSettings}
            seedOf={shown?.job?.request.seed}
            begin={begin}
            onNoise={() => from(null)}
            onSheet={(next) => {
              setSheet(next);
              again();
            }}
            onPainted={(id) => {
              setAwaited(id);
              again();
            }}
          />
          <Queue jobs={open} onChanged={again} onShow={(job) => show({ job })} />
        </section>
        <div className="hinge" aria-hidden="true" />
        <section className="panel picture" aria-label="Picture">
          <Picture
            shown={shown}
            beside={done.find((job) => job.job_id === compared) ?? null}
            onBegin={painters.some((model) => model.begins_from_pictures) ? from : undefined}
            onAlone={() => setCompared("")}
            readers={models.filter((model) => model.does === "read")}
            onFile={take}
            onRestore={restore}
            onEnded={again}
          />
        </section>
      </main>
      {sheet && (
        <GridSheet sheet={sheet} jobs={pictures} onShow={(job) => show({ job })} onClose={() => setSheet(null)} />
      )}
      <Gallery
        jobs={done}
        current={shown?.job?.job_id}
        onShow={(job) => show({ job })}
        onDelete={remove}
        onCompare={(job) => setCompared(job.job_id)}
        onChanged={again}
      />
      <Server />
      {deleted && (
        <div className="toast" role="status">
          Deleted.
          <button
            onClick={async () => {
              await api.act(deleted.job_id, "undo");
              setDeleted(null);
              again();
            }}
          >
            Undo
          </button>
        </div>
      )}
    </>
  );
}
