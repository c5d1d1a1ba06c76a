// What the page knows: the server's jobs and models, and what the person has chosen.

import { useCallback, useEffect, useRef, useState } from "react";
import * as api from "./api";

export interface Settings {
  model: string;
  negative: string;
  steps: number | null; // null: the model's own, as in the next three
  guidance: number | null;
  width: number | null;
  height: number | null;
  solver: string;
  seed: string; // empty: another each time
  count: number;
  strength: number; // share of the steps, of a picture that begins from one
}

/** A value that a reload keeps. */
export function useKept<T>(name: string, first: T): [T, (next: T) => void] {
  const [value, setValue] = useState<T>(() => {
    try {
      const found = localStorage.getItem(name);
      return found === null ? first : (JSON.parse(found) as T);
    } catch {
      return first;
    }
  });
  const keep = useCallback(
    (next: T) => {
      setValue(next);
      try {
        localStorage.setItem(name, JSON.stringify(next));
      } catch {
        // a full or closed store costs only the memory
      }
    },
    [name],
  );
  return [value, keep];
}

const OFTEN = 700;
const SELDOM = 4000;

/** The jobs, asked for often while some are under way. `problem`: why they cannot be had. */
export function useJobs() {
  const [jobs, setJobs] = useState<api.Job[]>([]);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const [asked, setAsked] = useState(0);
  const timer = useRef(0);
  useEffect(() => {
    let gone = false;
    const ask = async () => {
      let wait = SELDOM;
      try {
        const found = await api.jobs();
        if (gone) return;
        setJobs(found);
        setProblem(null);
        if (found.some((job) => job.status === "queued" || job.status === "running")) wait = OFTEN;
      } catch (error) {
        if (gone) return;
        setProblem(error as api.Problem);
        wait = 2000;
      }
      timer.current = window.setTimeout(ask, wait);
    };
    void ask();
    return () => {
      gone = true;
      window.clearTimeout(timer.current);
    };
  }, [asked]);
  const again = useCallback(() => setAsked((number) => number + 1), []);
  return { jobs, problem, again };
}

/** The models, asked for until the engine has told of them. */
export function useModels(known: boolean) {
  const [models, setModels] = useState<api.Model[]>([]);
  useEffect(() => {
    let timer = 0;
    const ask = () =>
      api
        .models()
        .then((found) => {
          setModels(found);
          if (found.length === 0) timer = window.setTimeout(ask, 1500);
        })
        .catch(() => {
          timer = window.setTimeout(ask, 3000);
        });
    if (known) void ask();
    return () => window.clearTimeout(timer);
  }, [known]);
  return models;
}

/** Words of a prompt that a model of few words does not know. Capitals and digits it spells. */
export function unknownWords(prompt: string, model: api.Model | undefined): string[] {
  if (!model?.words?.length) return [];
  const known = new Set(model.words);
  const words = prompt.match(/[A-Za-z]+/g) ?? [];
  const odd = words.filter((word) => !known.has(word.toLowerCase()) && !/^[A-Z]+$/.test(word));
  return [...new Set(odd)];
}

export const seconds = (value: number) =>
  value < 10 ? `${value.toFixed(1)} s` : value < 90 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
