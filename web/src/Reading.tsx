import { type FormEvent, useState } from "react";
import * as api from "./api";

interface Said {
  asked: string;
  text?: string;
  confidence?: number | null;
  problem?: string;
}

const TASKS: [api.Task, string][] = [
  ["caption", "Caption"],
  ["detailed_caption", "Describe"],
  ["ocr", "Read"],
];

const bytesOf = (url: string): Promise<Blob> => fetch(url).then((answer) => answer.blob());

interface Props {
  file: File | undefined;
  source: string;
  readers: api.Model[];
}

/** What is said about a picture. A model that chats is told what was said before. */
export function Reading({ file, source, readers }: Props) {
  const [said, setSaid] = useState<Said[]>([]);
  const [question, setQuestion] = useState("");
  const [name, setName] = useState("");
  const reader = readers.find((one) => one.id === name) ?? readers[0];
  if ((!file && !source) || !reader) return null;

  const hear = async (asked: string, answer: (picture: Blob, heard: (now: Partial<Said>) => void) => Promise<void>) => {
    const number = said.length;
    const heard = (now: Partial<Said>) =>
      setSaid((all) => all.map((one, at) => (at === number ? { ...one, ...now } : one)));
    setSaid((all) => [...all, { asked }]);
    try {
      await answer(file ?? (await bytesOf(source)), heard);
    } catch (error) {
      heard({ problem: (error as Error).message });
    }
  };
  const ask = (task: api.Task, label: string, words = "") =>
    hear(words || label, async (picture, heard) => {
      const answer = await api.read(picture, task, words, reader.id);
      heard({ text: answer.caption, confidence: answer.confidence });
    });
  const chat = (words: string) =>
    hear(words, async (picture, heard) => {
      const before = said.filter((one) => one.text && !one.problem);
      const turns = before.flatMap((one) => [one.asked, one.text ?? ""]);
      await api.chat(picture, [...turns, words], reader.id, (text) => heard({ text }));
    });
  const send = (event: FormEvent) => {
    event.preventDefault();
    const words = question.trim();
    if (!words) return;
    void (reader.chats ? chat(words) : ask("vqa", "", words));
    setQuestion("");
  };
  return (
    <section className="reading" aria-label="Reading">
      <div className="row">
        {readers.length > 1 && (
          <select aria-label="Who reads" value={reader.id} onChange={(event) => setName(event.target.value)}>
            {readers.map((one) => (
              <option key={one.id}>{one.id}</option>
            ))}
          </select>
        )}
        {TASKS.map(([task, label]) => (
          <button key={task} onClick={() => void ask(task, label)}>
            {label}
          </button>
        ))}
        <form className="joined grow" onSubmit={send}>
          <input
            aria-label={reader.chats ? "Something about the picture" : "A question about the picture"}
            placeholder={reader.chats ? "Talk about it" : "Ask about it"}
            value={question}
            onChange={(event) => setQuestion(event.target.value)}
          />
          <button>Ask</button>
        </form>
      </div>
      <dl aria-live="polite">
        {/* The newest is seen without scrolling; a talk is read downwards. */}
        {(reader.chats ? said : [...said].reverse()).map((one, at) => (
          <div key={reader.chats ? at : said.length - at}>
            <dt>{one.asked}</dt>
            <dd className={one.problem ? "warn" : ""}>
              {one.problem ?? (one.text === undefined ? "…" : one.text || "nothing")}
              {one.confidence != null && <span className="note"> {Math.round(one.confidence * 100)} %</span>}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
