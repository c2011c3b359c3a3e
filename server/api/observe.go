package api

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/inetboot/inetboot/internal/storepath"
)

// Patience is how long a client may take for the next piece, 64 KiB at most:
// a line of 9600 baud is slow but alive, less is a dead connection.
const (
	Patience = 5 * time.Minute
	piece    = 64 << 10

	// lingering is how long the rest of a body that nobody wants may take.
	lingering = 5 * time.Second
)

type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	sent     *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	uploads  *prometheus.CounterVec
	active   prometheus.Gauge
	id       atomic.Uint64
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inetboot_http_requests_total", Help: "Requests by kind of file, method and status."}, []string{"kind", "method", "code"}),
		sent:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inetboot_http_sent_bytes_total", Help: "Bytes of bodies sent, by kind of file."}, []string{"kind"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "inetboot_http_request_seconds", Help: "Time to answer, by kind of file.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10)}, []string{"kind"}),
		uploads:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inetboot_uploads_total", Help: "Uploads by kind of file and result."}, []string{"kind", "result"}),
		active:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "inetboot_http_requests_active", Help: "Requests under way."}),
	}
	m.registry.MustRegister(m.requests, m.sent, m.seconds, m.uploads, m.active,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts and logs every request, and gives clients time for as long
// as bytes flow.
func (a *api) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a.metrics.active.Inc()
		defer a.metrics.active.Dec()
		rec := &recorder{ResponseWriter: w, control: http.NewResponseController(w), patience: a.patience}
		rec.extend()
		if r.ContentLength != 0 {
			body := &patientBody{ReadCloser: r.Body, control: rec.control, patience: a.patience}
			body.extend()
			r.Body = body
			defer body.leave(rec)
		}
		func() {
			defer func() {
				if v := recover(); v == http.ErrAbortHandler {
					panic(v)
				} else if v != nil {
					a.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
					rec.fail()
				}
			}()
			next.ServeHTTP(rec, r)
		}()

		kind := "other"
		if k, _, ok := storepath.Parse(storePath(r)); ok {
			kind = string(k)
		}
		if rec.status == 0 {
			rec.status = http.StatusOK
		}
		took := time.Since(start)
		a.metrics.requests.WithLabelValues(kind, method(r.Method), strconv.Itoa(rec.status)).Inc()
		a.metrics.sent.WithLabelValues(kind).Add(float64(rec.sent))
		a.metrics.seconds.WithLabelValues(kind).Observe(took.Seconds())
		// A boot reads thousands of blocks: they are for debugging, unless
		// there is trouble with one.
		level := slog.LevelInfo
		if rec.status < 400 && (kind == string(storepath.KindBlock) || r.URL.Path == "/metrics" || r.URL.Path == "/healthz") {
			level = slog.LevelDebug
		}
		a.log.Log(r.Context(), level, "request", "id", a.metrics.id.Add(1), "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path,
			"status", rec.status, "bytes", rec.sent, "ms", took.Milliseconds())
	})
}

// method keeps the number of label values bounded.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost:
		return m
	}
	return "other"
}

// recorder remembers status and bytes. It passes files on to the connection's
// own ReadFrom, which is where sendfile(2) is.
type recorder struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	status   int
	sent     int64
}

// extend gives the client time for the next piece. Connections that cannot
// have deadlines are those of tests without a network.
func (r *recorder) extend() { _ = r.control.SetWriteDeadline(time.Now().Add(r.patience)) }

// fail answers a request whose handler panicked, if there is no answer yet.
// Otherwise the connection is cut, so that nobody takes half an answer for
// a whole one.
func (r *recorder) fail() {
	if r.status != 0 || r.sent > 0 {
		panic(http.ErrAbortHandler)
	}
	clear(r.Header())
	r.Header().Set("Content-Type", "application/json")
	r.WriteHeader(http.StatusInternalServerError)
	_, _ = io.WriteString(r, `{"message":"the server could not do this; its log says why"}`)
}

func (r *recorder) WriteHeader(code int) {
	if r.status == 0 && code >= 200 {
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.extend()
	n, err := r.ResponseWriter.Write(p)
	r.sent += int64(n)
	return n, err
}

// ReadFrom sends src in pieces, each with a deadline of its own.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	to, ok := r.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{r}, src)
	}
	left := int64(1<<63 - 1)
	if l, ok := src.(*io.LimitedReader); ok {
		// Two limits around a file would hide it from sendfile.
		src, left = l.R, l.N
		defer func(before int64) { l.N -= before - left }(left)
	}
	var total int64
	for left > 0 {
		r.extend()
		want := min(piece, left)
		n, err := to.ReadFrom(&io.LimitedReader{R: src, N: want})
		total += n
		left -= n
		r.sent += n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// patientBody ends uploads that hardly move: each piece has its time, so that
// a byte now and then does not keep a connection for ever.
type patientBody struct {
	io.ReadCloser
	control  *http.ResponseController
	patience time.Duration
	got      int64 // bytes since the last extension
	ended    bool
}

func (b *patientBody) extend() {
	b.got = 0
	_ = b.control.SetReadDeadline(time.Now().Add(b.patience))
}

// leave ends the handler's interest. net/http reads what is left of the body
// before it sends the answer: a client that does not send it must get the
// answer in time all the same, and cannot keep the connection.
func (b *patientBody) leave(rec *recorder) {
	if !b.ended {
		_ = b.control.SetReadDeadline(time.Now().Add(min(b.patience/2, lingering)))
	}
	rec.extend()
}

func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.got += int64(n); b.got >= piece {
		b.extend()
	}
	if err == io.EOF {
		// net/http watches the connection while the answer is made: that
		// has no deadline.
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
