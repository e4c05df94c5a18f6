"""Threads in the place of processes, which tell each other what processes would."""

import threading

from keras_tl.workers import Workers


class Thread(Workers):
    """One of several that gather together."""

    def __init__(self, index, told, meeting):
        super().__init__()
        self.count, self.index = len(told), index
        self._told_by_all, self._meeting = told, meeting

    def gather(self, array):
        self._told_by_all[self.index] = array
        self._meeting.wait(10)
        found = list(self._told_by_all)
        self._meeting.wait(10)
        return found


def together(*parts):
    """Calls each function with a `Workers` of its own, all at once; what each returns or raises."""
    told, meeting, found = [None] * len(parts), threading.Barrier(len(parts)), {}

    def run(index):
        try:
            found[index] = parts[index](Thread(index, told, meeting))
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=[index]) for index in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[index] for index in range(len(parts))]
