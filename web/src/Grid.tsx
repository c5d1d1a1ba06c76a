import { type FormEvent, useState } from "react";
import * as api from "./api";

const AXES = { steps: "Steps", guidance: "Guidance", seed: "Seed", solver: "Solver" } as const;
type Axis = keyof typeof AXES;
const MOST = 64; // pictures of one request

/** One picture for each pair of two lists, in rows, and the jobs that paint them. */
export interface Sheet {
  prompt: string;
  x: Axis;
  y: Axis;
  xs: string[];
  ys: string[];
  ids: string[];
}

const listed = (text: string) =>
  text
    .split(",")
    .map((one) => one.trim())
    .filter(Boolean);

function changed(request: api.Request, axis: Axis, value: string): api.Request {
  switch (axis) {
    case "steps":
      return { ...request, num_inference_steps: Number(value) };
    case "guidance":
      return { ...request, guidance_scale: Number(value) };
    case "seed":
      return { ...request, seed: Number(value) };
    case "solver":
      return { ...request, solver: value };
  }
}

interface Props {
  /** What is painted where no axis says otherwise; null while it cannot be painted. */
  request: () => api.Request | null;
  onSheet: (sheet: Sheet) => void;
}

export function GridForm({ request, onSheet }: Props) {
  const [x, setX] = useState<Axis>("steps");
  const [y, setY] = useState<Axis>("guidance");
  const [xs, setXs] = useState("4, 8, 20");
  const [ys, setYs] = useState("1, 3");
  const [problem, setProblem] = useState("");
  const columns = listed(xs);
  const rows = listed(ys);
  const number = columns.length * rows.length;
  const paint = async (event: FormEvent) => {
    event.preventDefault();
    const first = request();
    if (!first) return;
    setProblem("");
    try {
      const asked = rows.flatMap((down) =>
        columns.map((along) => changed(changed(first, x, along), y, down)),
      );
      const ids = await api.batch(asked);
      onSheet({ prompt: first.prompt, x, y, xs: columns, ys: rows, ids });
    } catch (error) {
      setProblem((error as api.Problem).message);
    }
  };
  const axis = (name: string, value: Axis, set: (axis: Axis) => void, text: string, setText: (text: string) => void) => (
    <div className="row">
      <div>
        <label htmlFor={`axis-${name}`}>{name}</label>
        <select id={`axis-${name}`} value={value} onChange={(event) => set(event.target.value as Axis)}>
          {Object.entries(AXES).map(([key, label]) => (
            <option key={key} value={key}>
              {label}
            </option>
          ))}
        </select>
      </div>
      <div className="grow">
        <label htmlFor={`list-${name}`}>Values, with commas</label>
        <input id={`list-${name}`} value={text} onChange={(event) => setText(event.target.value)} />
      </div>
    </div>
  );
  const wrong = x === y ? "Choose two different ones." : number > MOST ? `Up to ${MOST} pictures.` : problem;
  return (
    <details>
      <summary>Grid</summary>
      {axis("Across", x, setX, xs, setXs)}
      {axis("Down", y, setY, ys, setYs)}
      <button
        type="button"
        className="wide"
        disabled={x === y || number === 0 || number > MOST}
        onClick={(event) => void paint(event)}
      >
        Paint {number} pictures
      </button>
      <p role="alert" className="note warn">
        {wrong}
      </p>
    </details>
  );
}

interface SheetProps {
  sheet: Sheet;
  jobs: api.Job[];
  onShow: (job: api.Job) => void;
  onClose: () => void;
}

export function GridSheet({ sheet, jobs, onShow, onClose }: SheetProps) {
  const found = new Map(jobs.map((job) => [job.job_id, job]));
  return (
    <section className="panel sheet" aria-label="Grid">
      <div className="head">
        <h2>{sheet.prompt}</h2>
        <button aria-label="Close the grid" title="Close" onClick={onClose}>
          ×
        </button>
      </div>
      {/* A wide sheet is moved by the keyboard, too. */}
      <div className="wide-sheet" tabIndex={0} role="region" aria-label="Pictures of the grid">
        <table>
          <thead>
            <tr>
              <td className="note">
                {AXES[sheet.y]} \ {AXES[sheet.x]}
              </td>
              {sheet.xs.map((value) => (
                <th key={value} scope="col">
                  {value}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {sheet.ys.map((down, row) => (
              <tr key={down}>
                <th scope="row">{down}</th>
                {sheet.xs.map((along, column) => {
                  const job = found.get(sheet.ids[row * sheet.xs.length + column] ?? "");
                  return (
                    <td key={along}>
                      {job?.image_url ? (
                        <button className="plain" onClick={() => onShow(job)}>
                          <img
                            src={job.image_url}
                            alt={`${AXES[sheet.x]} ${along}, ${AXES[sheet.y]} ${down}`}
                            width={96}
                            height={96}
                          />
                        </button>
                      ) : (
                        <span className="note">{job?.error?.code ?? (job ? job.status : "gone")}</span>
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
