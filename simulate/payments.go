package simulate

import (
	"vaglio"
)

// payment is one payment and what is to follow it unless a cancellation prevents that.
type payment struct {
	id         string
	at         vaglio.Instant
	settled    vaglio.Instant
	delivered  vaglio.Instant // as reported; 0: never
	amount     int64          // minor units
	refunded   int64
	source     source
	device, ip string
	address    string // of goods
	merchant   *merchant
	uses       [2]use
	requested  bool
	cancelled  vaglio.Instant // 0: no
}

// use is a part of bought credit being spent.
type use struct {
	at     vaglio.Instant
	amount int64
}

// order is what a scheme wants of a payment; zero fields are drawn as honest customers would.
type order struct {
	amount     int64
	goods      bool // if neither, drawn
	deposit    bool
	source     source
	merchant   *merchant
	device, ip string
	unused     bool // nothing is spent but what the scheme says
	quiet      bool // without a login before
}

func (c *customer) pay(at vaglio.Instant, o order) *payment {
	k := knobs.base
	d := c.d
	if o.merchant == nil {
		o.merchant = &c.plan.merchants[c.plan.merchant(d, o.deposit || !o.goods && d.chance(c.deposits))]
	}
	switch {
	case o.source.id != "":
	case d.chance(k.newSources):
		o.source = c.newSource()
	default:
		o.source = c.sources[int(float64(len(c.sources))*d.Float64()*d.Float64())]
	}
	if o.device == "" {
		o.device = c.deviceAt(at)
	}
	if o.ip == "" {
		o.ip = c.ipAt()
	}
	if o.amount == 0 {
		o.amount = c.price(o.merchant, d.lognormal(1, k.amountSigma))
	}
	c.requests++ // numbers payments and requests alike
	p := &payment{id: c.plan.ids.id("p_", c.index, c.requests), at: at, amount: o.amount, source: o.source, device: o.device, ip: o.ip,
		merchant: o.merchant}
	p.settled = at + settling(d, o.source.rail)
	if !p.merchant.deposit {
		p.address = c.address
		if p.merchant.reports {
			p.delivered = c.awake(at + d.span(1*vaglio.Day, 6*vaglio.Day))
		}
	} else {
		if p.merchant.reports {
			p.delivered = at + d.span(vaglio.Second, vaglio.Hour)
		}
		if !o.unused && d.chance(k.spends) {
			c.planUse(p)
		}
	}
	if !o.quiet && d.chance(k.logins) {
		c.login(at-d.span(20*vaglio.Second, 8*vaglio.Minute), p.device, p.ip)
	}
	if d.chance(k.failed) {
		c.emit("payment_failed", at-d.span(10*vaglio.Second, 5*vaglio.Minute), p.amount, c.paymentEntities(p), c.paymentAttributes(p))
	}
	c.emit(vaglio.KindPayment, at, p.amount, c.paymentEntities(p), c.paymentAttributes(p))
	c.payments = append(c.payments, p)
	return p
}

func (c *customer) paymentEntities(p *payment) vaglio.Fields {
	return c.entities("address", p.address, "customer", c.id, "device", p.device, "instrument", p.source.id, "ip", p.ip,
		"merchant", p.merchant.id, "payment", p.id)
}

func (c *customer) paymentAttributes(p *payment) vaglio.Fields {
	return c.attributes("channel", c.channel, "country", c.country, "rail", p.source.rail)
}

// price is an amount as shops ask it: credit in round sums, goods just below them.
func (c *customer) price(m *merchant, factor float64) int64 {
	x := min(max(c.scale*m.price*factor, 300), 500_000)
	switch {
	case !m.deposit && c.d.chance(0.6):
		return int64(x)/100*100 + 99
	case !m.deposit:
		return int64(x)
	case x < 5_000:
		return (int64(x)/500 + 1) * 500
	case x < 50_000:
		return int64(x) / 1_000 * 1_000
	default:
		return int64(x) / 5_000 * 5_000
	}
}

// settling is how long a rail takes.
func settling(d draw, rail string) vaglio.Instant {
	switch rail {
	case "sct_inst":
		return d.span(2*vaglio.Second, 15*vaglio.Second)
	case "wallet":
		return d.span(10*vaglio.Minute, 3*vaglio.Hour)
	case "open_banking":
		return d.span(vaglio.Hour, 20*vaglio.Hour)
	case "direct_debit":
		return d.span(40*vaglio.Hour, 80*vaglio.Hour)
	default:
		return d.span(18*vaglio.Hour, 50*vaglio.Hour)
	}
}

// planUse lets the customer use credit: many within hours and nearly all of it, the others later and in part.
func (c *customer) planUse(p *payment) {
	d := c.d
	if d.chance(knobs.base.fastSpender) {
		p.uses[0] = use{p.at + d.hours(spread{1.5, 0.1, 10}), int64(float64(p.amount) * d.between(0.4, 1))}
		return
	}
	p.uses[0] = use{p.at + d.hours(spread{30, 3, 200}), int64(float64(p.amount) * d.between(0.1, 0.9))}
	if d.chance(0.2) {
		p.uses[1] = use{p.uses[0].at + d.hours(spread{24, 2, 150}), int64(float64(p.amount-p.uses[0].amount) * d.between(0.2, 1))}
	}
}

// used is how much of the payment's credit is used before a moment.
func (p *payment) used(before vaglio.Instant) (sum int64) {
	for _, u := range p.uses {
		if u.amount > 0 && u.at < before {
			sum += u.amount
		}
	}
	return
}

// conclude emits what follows a payment, and now and then a chargeback or return that has nothing to do with refunds.
func (c *customer) conclude(p *payment) {
	k := knobs.base
	d := c.d
	if p.cancelled == 0 {
		c.emit("payment_settled", p.settled, p.amount, c.entities("customer", c.id, "payment", p.id), nil)
	}
	if p.delivered != 0 && (p.cancelled == 0 || p.delivered < p.cancelled) {
		c.emit("delivered", p.delivered, 0, c.entities("customer", c.id, "payment", p.id), nil)
	}
	for _, u := range p.uses {
		if u.amount > 0 && (p.cancelled == 0 || u.at < p.cancelled) {
			c.emit("spend", u.at, u.amount, c.entities("customer", c.id, "merchant", p.merchant.id, "payment", p.id), nil)
		}
	}
	if p.merchant.deposit && p.cancelled == 0 && d.chance(k.withdrawals) {
		c.emit("withdrawal", c.awake(p.at+d.span(vaglio.Day, 20*vaglio.Day)), 1+int64(float64(p.amount)*d.between(0.1, 0.8)),
			c.entities("customer", c.id, "instrument", p.source.id), nil)
	}
	switch {
	case p.requested:
	case p.source.rail == "card":
		if d.chance(k.chargebacks) {
			c.emit(vaglio.KindChargeback, p.at+d.days(spread{28, 8, 80}), p.amount, c.disputeEntities(p, ""), nil)
		}
		if d.chance(k.warnings) {
			c.emit("early_fraud_warning", p.at+d.days(spread{9, 2, 30}), p.amount, c.disputeEntities(p, ""), nil)
		}
	case p.source.rail == "direct_debit" && d.chance(k.returned):
		c.emit("payment_returned", p.settled+d.days(spread{4, 1, 25}), p.amount, c.disputeEntities(p, ""), nil)
	}
}

func (c *customer) disputeEntities(p *payment, request string) vaglio.Fields {
	return c.entities("customer", c.id, "instrument", p.source.id, "merchant", p.merchant.id, "payment", p.id, "request", request)
}
