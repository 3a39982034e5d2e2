/* load: a closed-loop client for chat completions, JSON or SSE, that measures what a client sees.
 *
 *   gcc -O2 -o load load.c
 *   load -p PORT -b BODY.json [-c connections] [-d seconds] [-w warm-up seconds] [-n answers] [-e events]
 *        [-H 'Name: value']... [-P path] [-i]
 *
 * Each connection sends a request, reads the whole answer and sends the next. No request begins after -n answers
 * were asked for or after -d seconds; those under way are finished, so that the counts are of whole answers.
 * Prints one JSON object. Answers and events of the warm-up are in "total" and "total_events" (what the proxy
 * worked for), but not in the percentiles and rates. Times are in microseconds:
 *   lat    whole answer
 *   ttft   from the request to the first event with text
 *   delay  one-way delay of an event that carries fakeup's stamp (-s)
 * An answer is an error if its status is not 200, if it ends early, if a JSON answer does not say "stop" (a withheld
 * one is no proof of speed), or if a stream has not [DONE] or not -e events with text.
 * With -i it opens one stream a connection, prints {"open": N} once all have begun, and holds them until SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

#define READ_SIZE 262144
#define DRAIN_NS 60000000000ull
#define ANY -1

enum part { HEAD, BODY_LENGTH, BODY_UNTIL_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END };

struct conn {
    int fd;
    bool busy;
    bool counted; /* asked after the warm-up */
    bool begun;   /* in idle mode: its stream has begun */
    size_t sent;
    enum part part;
    struct buf in;   /* of the wire, not understood yet */
    struct buf line; /* of a stream, not ended yet; a JSON answer as a whole */
    size_t left;     /* of a body or chunk */
    int status;
    bool is_stream;
    bool is_done;
    bool closes;
    long events;
    uint64_t began;
};

struct samples {
    double *value;
    size_t len;
    size_t cap;
};

static struct {
    int port;
    int connections;
    double seconds;
    double warm_up;
    long answers;
    long events;
    bool idle;
    const char *path;
    const char *body_file;
    struct buf headers;
} ask = {.port = 8000, .connections = 1, .seconds = 3, .answers = ANY, .events = ANY,
         .path = "/v1/chat/completions"};

static struct buf request;
static int poller;
static uint64_t measure_from;
static uint64_t stop_at;
static long asked;
static long busy;
static long opened;
static volatile sig_atomic_t stopped;
static struct samples lat, ttft, delay;
static long done, total, total_events, events, errors;
static uint64_t last_done;
static char first_error[160];

/* -- Figures ---------------------------------------------------------------------------------------------- */

static void sample(struct samples *s, double value)
{
    if (s->len == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 65536;
        s->value = checked(realloc(s->value, s->cap * sizeof *s->value));
    }
    s->value[s->len++] = value;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct samples *s, double part)
{
    return s->len ? s->value[(size_t)((double)(s->len - 1) * part)] : 0;
}

static void print_samples(const char *name, struct samples *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->len; i++)
        sum += s->value[i];
    qsort(s->value, s->len, sizeof *s->value, by_size);
    printf(",\"%s_n\":%zu,\"%s_mean\":%.1f", name, s->len, name, s->len ? sum / (double)s->len : 0);
    printf(",\"%s_p50\":%.1f,\"%s_p90\":%.1f,\"%s_p99\":%.1f", name, percentile(s, .5), name,
           percentile(s, .9), name, percentile(s, .99));
}

static void print_figures(void)
{
    double seconds = last_done > measure_from ? (double)(last_done - measure_from) / 1e9 : 0;
    double per_second = seconds > 0 ? 1 / seconds : 0;
    for (char *c = first_error; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '\'';
    printf("{\"seconds\":%.3f,\"done\":%ld,\"events\":%ld,\"total\":%ld,\"total_events\":%ld,\"errors\":%ld", seconds,
           done, events, total, total_events, errors);
    printf(",\"rps\":%.1f,\"events_s\":%.1f", (double)done * per_second, (double)events * per_second);
    print_samples("lat", &lat);
    print_samples("ttft", &ttft);
    print_samples("delay", &delay);
    printf(",\"first_error\":\"%s\"}\n", first_error);
}

/* -- Connections ------------------------------------------------------------------------------------------ */

static void watch(struct conn *c, int how, bool writes)
{
    struct epoll_event e = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, how, c->fd, &e);
}

/* Connecting on loopback does not wait for the other process: it may block. */
static void open_conn(struct conn *c)
{
    static const int on = 1;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)ask.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&where, sizeof where))
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLL_CTL_ADD, false);
}

static void send_request(struct conn *c)
{
    size_t before = c->sent;
    while (c->sent < request.len) {
        ssize_t n = send(c->fd, request.data + c->sent, request.len - c->sent, MSG_NOSIGNAL);
        if (n > 0) {
            c->sent += (size_t)n;
        } else {
            if (errno == EAGAIN)
                watch(c, EPOLL_CTL_MOD, true);
            return; /* a broken connection shows when it is read */
        }
    }
    if (before)
        watch(c, EPOLL_CTL_MOD, false);
}

static void ask_next(struct conn *c)
{
    uint64_t now = now_ns();
    if ((ask.answers != ANY && asked >= ask.answers) || now >= stop_at)
        return;
    asked++;
    busy++;
    c->busy = true;
    c->counted = now >= measure_from;
    c->part = HEAD;
    c->in.len = c->line.len = c->sent = 0;
    c->events = 0;
    c->is_done = false;
    c->began = now;
    send_request(c);
}

static void fail(const char *why, const char *detail, size_t len)
{
    errors++;
    if (!first_error[0])
        snprintf(first_error, sizeof first_error, "%s %.*s", why, (int)len, detail);
}

static void count(struct conn *c, bool complete)
{
    char detail[32] = "";
    total++;
    if (!complete) {
        fail("ended early", "", 0);
    } else if (c->status != 200) {
        fail("status", detail, (size_t)snprintf(detail, sizeof detail, "%d", c->status));
    } else if (!c->is_stream && !memmem(c->line.data, c->line.len, "\"stop\"", 6)) {
        fail("not a whole answer:", c->line.data, c->line.len);
    } else if (c->is_stream && !c->is_done) {
        fail("a stream without [DONE]", "", 0);
    } else if (c->is_stream && ask.events != ANY && c->events != ask.events) {
        fail("events:", detail, (size_t)snprintf(detail, sizeof detail, "%ld", c->events));
    } else if (c->counted) {
        last_done = now_ns();
        done++;
        sample(&lat, (double)(last_done - c->began) / 1e3);
    }
}

/* The answer has ended, well or not. */
static void finish(struct conn *c, bool complete)
{
    if (c->busy) {
        busy--;
        count(c, complete);
    }
    c->busy = false;
    if (!complete || c->closes || c->part == BODY_UNTIL_CLOSE) {
        close(c->fd);
        open_conn(c);
    }
    ask_next(c);
}

/* -- Reading an answer ------------------------------------------------------------------------------------ */

static void read_stamp(struct conn *c, const char *text, size_t len, uint64_t now)
{
    if (len < 17 || text[0] != '@' || !c->counted)
        return;
    uint64_t sent = 0;
    for (int i = 1; i <= 16; i++) {
        if (text[i] < '0' || text[i] > '9')
            return;
        sent = sent * 10 + (uint64_t)(text[i] - '0');
    }
    sample(&delay, ((double)now - (double)sent) / 1e3);
}

static void read_line(struct conn *c, const char *line, size_t len, uint64_t now)
{
    static const char key[] = "\"content\":";
    if (len < 6 || memcmp(line, "data:", 5))
        return;
    if (memmem(line, len, "[DONE]", 6)) {
        c->is_done = true;
        return;
    }
    const char *text = memmem(line, len, key, sizeof key - 1);
    if (!text)
        return;
    text += sizeof key - 1;
    while (text < line + len && *text == ' ')
        text++;
    if (text + 1 >= line + len || *text != '"' || text[1] == '"')
        return; /* null or empty */
    if (c->events++ == 0 && c->counted)
        sample(&ttft, (double)(now - c->began) / 1e3);
    total_events++;
    events += c->counted;
    read_stamp(c, text + 1, (size_t)(line + len - text) - 1, now);
}

static void read_body(struct conn *c, const char *data, size_t len, uint64_t now)
{
    const char *end = data + len;
    if (!c->is_stream)
        buf_add(&c->line, data, len);
    while (c->is_stream && data < end) {
        const char *stop = memchr(data, '\n', (size_t)(end - data));
        if (!stop) {
            buf_add(&c->line, data, (size_t)(end - data));
            return;
        }
        if (c->line.len) {
            buf_add(&c->line, data, (size_t)(stop - data));
            read_line(c, c->line.data, c->line.len, now);
            c->line.len = 0;
        } else {
            read_line(c, data, (size_t)(stop - data), now);
        }
        data = stop + 1;
    }
}

static bool says(const char *line, const char *name, const char *value)
{
    size_t len = strlen(name);
    return !strncasecmp(line, name, len) && !strncasecmp(line + len + strspn(line + len, " "), value, strlen(value));
}

/* Returns the bytes taken, 0 if the head is not complete. */
static size_t read_head(struct conn *c, char *data, size_t len)
{
    char *end = memmem(data, len, "\r\n\r\n", 4);
    if (!end)
        return 0;
    c->part = BODY_UNTIL_CLOSE;
    c->is_stream = c->closes = false;
    c->status = atoi(data + strcspn(data, " "));
    for (char *line = data; line < end; line = (char *)memmem(line, len, "\r\n", 2) + 2) {
        if (says(line, "content-length:", "")) {
            c->part = BODY_LENGTH;
            c->left = strtoul(line + 15, NULL, 10);
        } else if (says(line, "transfer-encoding:", "chunked")) {
            c->part = CHUNK_SIZE;
        } else if (says(line, "content-type:", "text/event-stream")) {
            c->is_stream = true;
        } else if (says(line, "connection:", "close")) {
            c->closes = true;
        }
    }
    return (size_t)(end - data) + 4;
}

/* Returns the bytes taken, 0 if more are needed. Sets `*ended` with the last chunk. */
static size_t read_chunk(struct conn *c, char *data, size_t len, uint64_t now, bool *ended)
{
    if (c->part == CHUNK_DATA) {
        size_t n = len < c->left ? len : c->left;
        read_body(c, data, n, now);
        c->left -= n;
        if (!c->left)
            c->part = CHUNK_END;
        return n;
    }
    char *stop = memmem(data, len, "\r\n", 2);
    if (!stop)
        return 0;
    if (c->part == CHUNK_SIZE) {
        c->left = strtoul(data, NULL, 16);
        c->part = CHUNK_DATA;
        if (!c->left) { /* the empty line after it is taken with it */
            if (len < (size_t)(stop - data) + 4)
                return 0;
            *ended = true;
            return (size_t)(stop - data) + 4;
        }
    } else {
        c->part = CHUNK_SIZE;
    }
    return (size_t)(stop - data) + 2;
}

static void read_answer(struct conn *c, uint64_t now)
{
    size_t at = 0;
    bool ended = false;
    while (!ended && at < c->in.len) {
        char *data = c->in.data + at;
        size_t len = c->in.len - at;
        size_t n;
        if (c->part == HEAD) {
            n = read_head(c, data, len);
            ended = n && c->part == BODY_LENGTH && !c->left;
        } else if (c->part == BODY_LENGTH) {
            n = len < c->left ? len : c->left;
            read_body(c, data, n, now);
            c->left -= n;
            ended = !c->left;
        } else if (c->part == BODY_UNTIL_CLOSE) {
            n = len;
            read_body(c, data, n, now);
        } else {
            n = read_chunk(c, data, len, now, &ended);
        }
        if (!n)
            break;
        at += n;
    }
    buf_drop(&c->in, at);
    if (ended)
        finish(c, true);
}

static void receive(struct conn *c)
{
    buf_reserve(&c->in, READ_SIZE + 1);
    ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (ask.idle)
            die("a stream that should be idle ended");
        finish(c, c->busy ? c->part == BODY_UNTIL_CLOSE : false);
        return;
    }
    c->in.len += (size_t)n;
    c->in.data[c->in.len] = 0;
    if (ask.idle && !c->begun && memmem(c->in.data, c->in.len, "\r\n\r\n", 4)) {
        c->begun = true;
        opened++;
    }
    read_answer(c, now_ns());
}

/* -- Set-up ----------------------------------------------------------------------------------------------- */

static void build_request(void)
{
    struct buf body = {0};
    FILE *file = fopen(ask.body_file, "rb");
    size_t n;
    if (!file)
        die(ask.body_file);
    do {
        buf_reserve(&body, READ_SIZE);
        n = fread(body.data + body.len, 1, READ_SIZE, file);
        body.len += n;
    } while (n);
    fclose(file);
    char head[512];
    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load\r\nAccept: */*\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n",
             ask.path, ask.port, body.len);
    buf_text(&request, head);
    buf_add(&request, ask.headers.data, ask.headers.len);
    buf_text(&request, "\r\n");
    buf_add(&request, body.data, body.len);
    buf_free(&body);
}

static void read_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "p:b:c:d:w:n:e:H:P:i")) != -1) {
        switch (option) {
        case 'p': ask.port = atoi(optarg); break;
        case 'b': ask.body_file = optarg; break;
        case 'c': ask.connections = atoi(optarg); break;
        case 'd': ask.seconds = atof(optarg); break;
        case 'w': ask.warm_up = atof(optarg); break;
        case 'n': ask.answers = atol(optarg); break;
        case 'e': ask.events = atol(optarg); break;
        case 'P': ask.path = optarg; break;
        case 'i': ask.idle = true; break;
        case 'H': buf_text(&ask.headers, optarg); buf_text(&ask.headers, "\r\n"); break;
        default: exit(2);
        }
    }
    if (!ask.body_file) {
        fputs("load: a body is needed (-b)\n", stderr);
        exit(2);
    }
}

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void run(void)
{
    struct epoll_event ready[512];
    bool told = false;
    while (!stopped && (busy || ask.idle) && (ask.idle || now_ns() < stop_at + DRAIN_NS)) {
        int n = epoll_wait(poller, ready, 512, 1000);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT)
                send_request(c);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(c);
        }
        if (ask.idle && !told && opened == ask.connections) {
            printf("{\"open\":%ld}\n", opened);
            fflush(stdout);
            told = true;
        }
    }
    errors += ask.idle ? 0 : busy; /* answers that never came */
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    build_request();
    poller = epoll_create1(0);
    measure_from = now_ns() + (uint64_t)(ask.warm_up * 1e9);
    stop_at = ask.answers == ANY && !ask.idle ? measure_from + (uint64_t)(ask.seconds * 1e9) : UINT64_MAX - DRAIN_NS;
    struct conn *conns = checked(calloc((size_t)ask.connections, sizeof *conns));
    for (int i = 0; i < ask.connections; i++) {
        open_conn(&conns[i]);
        ask_next(&conns[i]);
    }
    run();
    if (!ask.idle)
        print_figures();
}
