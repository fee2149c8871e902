package wire

import "sync"

// maxSpareWorkers bounds the goroutines of a lane that wait for a call. Each keeps a stack of about 16 KB.
const maxSpareWorkers = 64

// laneWorkers carry out calls, each in a goroutine that carries out others before and after it. The stack of a new
// goroutine is too small for a call, and to copy it into larger ones again and again cost a third of a Check.
type laneWorkers struct {
	tasks chan func()
	spare chan struct{} // one each that waits for a task
	end   <-chan struct{}
	all   sync.WaitGroup
}

func newLaneWorkers(end <-chan struct{}) *laneWorkers {
	return &laneWorkers{tasks: make(chan func()), spare: make(chan struct{}, maxSpareWorkers), end: end}
}

// do has a worker carry out a task. It does not wait.
func (w *laneWorkers) do(task func()) {
	select {
	case w.tasks <- task:
	default:
		w.all.Go(func() { w.work(task) })
	}
}

// work carries out a task and those after it. It returns when enough others wait for the next one, or at the end.
func (w *laneWorkers) work(task func()) {
	for {
		task()
		select {
		case w.spare <- struct{}{}:
		default:
			return
		}
		select {
		case task = <-w.tasks:
			<-w.spare
		case <-w.end:
			return
		}
	}
}
